//! Patterns, values, and which of them a domain gets.

use std::time::Duration;

use fastrand::Rng;

use super::super::{FilePolicy, Pattern, Policies, Policy, PolicyError, PolicySource, PolicyValue, Rate};
use super::domain;

const SECOND: Duration = Duration::from_secs(1);

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn concurrency(concurrency: u32) -> Policy {
    Policy { concurrency: Some(concurrency), ..Policy::default() }
}

fn max_queue(max_queue: u32) -> Policy {
    Policy { max_queue: Some(max_queue), ..Policy::default() }
}

#[test]
fn a_pattern_is_folded_like_a_domain_and_to_one_spelling() {
    assert_eq!(pattern(" Foo.COM. ").as_str(), "foo.com");
    assert_eq!(pattern("Deploy/**").as_str(), "deploy/*");
    assert_eq!(pattern("a*?*b*").as_str(), "a?*b*");
    assert_eq!(pattern("*.").as_str(), "*");
    let refusal = Pattern::parse(" . ").unwrap_err().to_string();
    assert_eq!(refusal, "the domain is empty: give it a name, such as foo.com");
    assert!(Pattern::parse("a\n*").is_err());
}

#[test]
fn a_star_is_any_run_of_characters_and_a_question_mark_is_one() {
    let matches = |text: &str, name: &str| pattern(text).matches(&domain(name));
    assert!(matches("deploy/*", "deploy/eu/west"));
    assert!(matches("deploy/*", "Deploy/EU."));
    assert!(!matches("deploy/*", "deploy"));
    assert!(matches("*", "ä"));
    assert!(matches("?", "ä"));
    assert!(!matches("??", "ä"));
    assert!(matches("*.com", "a.com.com"));
    assert!(!matches("*.com", "a.com.org"));
    assert!(!matches("foo.com", "foo.comm"));
    assert!(matches("a*b", "a*b"));
}

#[test]
fn each_value_comes_from_the_most_specific_pattern_that_sets_it() {
    let mut policies = Policies::default();
    policies.set(pattern("*"), &Policy { cooldown: Some(SECOND), ..concurrency(9) });
    policies.set(pattern("deploy/*"), &concurrency(3));
    policies.set(pattern("deploy/eu"), &max_queue(5));
    policies.replace_file(vec![
        FilePolicy { pattern: pattern("deploy/*"), line: 4, policy: Policy { max_queue: Some(7), ..concurrency(8) } },
        FilePolicy { pattern: pattern("deploy/??"), line: 7, policy: max_queue(8) },
    ]);
    let eu = policies.resolve(&domain("deploy/eu"));
    assert_eq!(eu, Policy { concurrency: Some(3), max_queue: Some(5), cooldown: Some(SECOND), ..Policy::default() });
    assert_eq!(
        policies.explain(&domain("deploy/eu")),
        [
            (PolicyValue::Concurrency, pattern("deploy/*"), PolicySource::Set),
            (PolicyValue::MaxQueue, pattern("deploy/eu"), PolicySource::Set),
            (PolicyValue::Cooldown, pattern("*"), PolicySource::Set),
        ]
    );
    let us = policies.explain(&domain("deploy/us"));
    assert_eq!(us[1], (PolicyValue::MaxQueue, pattern("deploy/*"), PolicySource::File { line: 4 }), "one wildcard");
    assert_eq!(policies.resolve(&domain("other")).concurrency, Some(9));
}

#[test]
fn setting_adds_and_unsetting_forgets_what_was_set_by_hand() {
    let mut policies = Policies::default();
    policies.set(pattern("a"), &concurrency(2));
    assert_eq!(policies.set(pattern("A."), &max_queue(3)), Policy { max_queue: Some(3), ..concurrency(2) });
    policies.set(pattern("a"), &concurrency(4));
    assert_eq!(policies.resolve(&domain("a")), Policy { max_queue: Some(3), ..concurrency(4) });
    policies.replace_file(vec![FilePolicy { pattern: pattern("a"), line: 1, policy: concurrency(7) }]);
    assert!(policies.unset(&pattern("a")));
    assert!(!policies.unset(&pattern("a")), "only the file says something now");
    assert_eq!(policies.resolve(&domain("a")), concurrency(7));
    policies.replace_file(Vec::new());
    assert_eq!(policies, Policies::default(), "nothing is left");
}

#[test]
fn a_value_that_cannot_be_is_refused_with_the_reason() {
    let refusal = |policy: Policy| policy.check().unwrap_err().to_string();
    assert_eq!(refusal(Policy::default()), "the policy sets nothing: name at least one value, such as concurrency");
    assert_eq!(refusal(concurrency(0)), "concurrency must be at least 1: `seq pause` is for letting nobody in");
    assert_eq!(refusal(concurrency(65_537)), "concurrency is too large: use at most 65536");
    assert_eq!(
        refusal(Policy { max_run: Some(Duration::ZERO), ..Policy::default() }),
        "max-run must be more than zero"
    );
    let rate = |starts, per| Policy { rate: Some(Rate { starts, per }), ..Policy::default() };
    assert_eq!(rate(0, SECOND).check(), Err(PolicyError::Zero(PolicyValue::Rate)));
    assert_eq!(rate(1, Duration::ZERO).check(), Err(PolicyError::Zero(PolicyValue::Rate)));
    assert_eq!(refusal(rate(10_001, SECOND)), "the rate has too many starts: use at most 10000, in a shorter time");
    assert_eq!(rate(10_000, SECOND).check(), Ok(()));
    assert_eq!(Policy { max_queue: Some(0), cooldown: Some(Duration::ZERO), ..Policy::default() }.check(), Ok(()));
}

#[test]
fn a_rate_is_starts_in_a_time() {
    let duration = |text: &str| if text == "1m" { Ok(SECOND * 60) } else { Err(format!("not {text}")) };
    assert_eq!(Rate::parse("10/1m", duration), Ok(Rate { starts: 10, per: SECOND * 60 }));
    assert_eq!(Rate::parse(" 10 / 1m", duration), Ok(Rate { starts: 10, per: SECOND * 60 }));
    assert_eq!(Rate::parse("1/x", duration), Err("not x".to_owned()));
    for wrong in ["10", "/1m", "-1/1m", "x/1m"] {
        let expected = format!("'{wrong}' is not a rate: write how many starts in how long, such as 10/1m");
        assert_eq!(Rate::parse(wrong, duration), Err(expected));
    }
}

#[test]
fn the_table_can_be_written_down_and_read_back() {
    let mut policies = Policies::default();
    policies.set(pattern("a*"), &concurrency(2));
    policies.replace_file(vec![FilePolicy { pattern: pattern("b"), line: 9, policy: max_queue(3) }]);
    let text = serde_json::to_string(&policies).unwrap();
    assert_eq!(serde_json::from_str::<Policies>(&text).unwrap(), policies);
}

/// By the definition, with every split tried.
fn matches_naively(glob: &[char], name: &[char]) -> bool {
    match glob.first() {
        None => name.is_empty(),
        Some('*') => (0..=name.len()).any(|taken| matches_naively(&glob[1..], &name[taken..])),
        Some('?') => !name.is_empty() && matches_naively(&glob[1..], &name[1..]),
        Some(literal) => name.first() == Some(literal) && matches_naively(&glob[1..], &name[1..]),
    }
}

fn random_text(rng: &mut Rng, letters: &[char]) -> String {
    (0..rng.usize(1..8)).map(|_| letters[rng.usize(..letters.len())]).collect()
}

#[test]
fn globs_match_what_they_match_by_definition() {
    let mut rng = Rng::with_seed(4);
    for _ in 0..200_000 {
        let (text, name) = (random_text(&mut rng, &['a', 'b', '*', '?']), random_text(&mut rng, &['a', 'b']));
        let glob: Vec<char> = text.chars().collect();
        let expected = matches_naively(&glob, &name.chars().collect::<Vec<_>>());
        let parsed = pattern(&text);
        assert_eq!(parsed.matches(&domain(&name)), expected, "{text} and {name}");
        assert_eq!(Pattern::parse(parsed.as_str()).unwrap(), parsed, "normal once, normal for ever");
    }
}

#[test]
fn values_are_resolved_as_by_a_search_through_all_of_them() {
    let mut rng = Rng::with_seed(5);
    for _ in 0..3_000 {
        let mut policies = Policies::default();
        let mut all: Vec<(Pattern, PolicySource, Policy)> = Vec::new();
        let entries = (0..rng.u32(0..6)).map(|line| FilePolicy {
            pattern: pattern(&random_text(&mut rng, &['a', 'b', '*', '?'])),
            line,
            policy: Policy { concurrency: rng.bool().then(|| rng.u32(1..99)), ..max_queue(rng.u32(..99)) },
        });
        let entries: Vec<FilePolicy> = entries.collect();
        policies.replace_file(entries.clone());
        all.extend(entries.into_iter().map(|it| (it.pattern, PolicySource::File { line: it.line }, it.policy)));
        for _ in 0..rng.u32(0..6) {
            let (pattern, policy) =
                (pattern(&random_text(&mut rng, &['a', 'b', '*', '?'])), concurrency(rng.u32(1..9)));
            all.retain(|(other, source, _)| (other, source) != (&pattern, &PolicySource::Set));
            policies.set(pattern.clone(), &policy);
            all.push((pattern, PolicySource::Set, policy));
        }
        let literals = |pattern: &Pattern| pattern.as_str().chars().filter(|it| !"*?".contains(*it)).count();
        let wildcards = |pattern: &Pattern| pattern.as_str().chars().filter(|it| "*?".contains(*it)).count();
        all.sort_by_key(|(pattern, source, _)| {
            let is_glob = wildcards(pattern) > 0;
            let literals = if is_glob { 99 - literals(pattern) } else { 0 };
            (is_glob, literals, wildcards(pattern), pattern.as_str().to_owned(), *source)
        });
        let name = domain(&random_text(&mut rng, &['a', 'b']));
        let of_name = || all.iter().filter(|(pattern, ..)| pattern.matches(&name));
        let resolved = policies.resolve(&name);
        assert_eq!(resolved.concurrency, of_name().find_map(|(.., policy)| policy.concurrency));
        assert_eq!(resolved.max_queue, of_name().find_map(|(.., policy)| policy.max_queue));
        let listed: Vec<_> = policies.iter().map(|(pattern, source, policy)| (pattern, source, *policy)).collect();
        assert_eq!(listed, all, "in order of specificity");
    }
}
