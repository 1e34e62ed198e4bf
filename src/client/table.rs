//! Text for people: columns, cut to the terminal, with nothing in it that a terminal would obey.

use std::os::fd::AsFd;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Blank columns between two cells.
const GAP: usize = 2;

/// What the other end of a stream can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Screen {
    /// Columns; none when it is not a terminal, and nothing is cut.
    pub(super) width: Option<usize>,
    /// Whether it may be coloured.
    pub(super) colour: bool,
}

impl Screen {
    /// What `stream` is, and whether its user wants no colour (`NO_COLOR`, <https://no-color.org>).
    pub(super) fn of(stream: impl AsFd) -> Screen {
        if !rustix::termios::isatty(&stream) {
            return Screen::default();
        }
        let columns = rustix::termios::tcgetwinsize(&stream).map_or(0, |size| usize::from(size.ws_col));
        let plain = |name: &str, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || plain("TERM", "dumb");
        Screen { width: Some(if columns == 0 { 80 } else { columns }), colour: !no_colour }
    }

    /// `text` as a heading.
    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// `text` as something to look at.
    pub(super) fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// `text`, cut to the width.
    pub(super) fn cut(self, text: &str) -> String {
        match self.width {
            Some(width) => cut(text, width),
            None => text.to_owned(),
        }
    }

    /// `parts` one after the other, none of them parted, on as many lines as it takes, the first begun with `indent`
    /// blanks and the others with two more. Only a part that is wider than a line is cut in pieces.
    pub(super) fn wrap(self, indent: usize, parts: &[&str]) -> Vec<String> {
        let Some(width) = self.width else { return vec![" ".repeat(indent) + &parts.join(" ")] };
        let mut lines = vec![" ".repeat(indent)];
        let mut is_begun = false;
        for part in parts.iter().flat_map(|part| pieces(part, width.saturating_sub(indent + 2))) {
            let line = lines.last().map_or(0, |line| line.width());
            if is_begun && line + 1 + part.width() > width {
                lines.push(" ".repeat(indent + 2));
                is_begun = false;
            }
            if let Some(line) = lines.last_mut() {
                line.push_str(if is_begun { " " } else { "" });
                line.push_str(part);
            }
            is_begun = true;
        }
        lines
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `text` with everything that a terminal would obey, or that nobody would see, written out: control characters, those
/// that turn the direction of what follows, and other characters without a picture.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            _ if character.is_control() || is_unseen(character) => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    shown
}

/// Of Unicode's category Cf those that are not part of how a language or a picture is written, and the separators of
/// lines.
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0001}'..='\u{e007f}'
    )
}

/// `text` in at most `width` columns; what was cut off is marked with `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut columns = 1;
    for character in text.chars() {
        columns += character.width().unwrap_or(0);
        if columns > width {
            break;
        }
        kept.push(character);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// `text` in pieces of at most `width` columns; at least one.
fn pieces(text: &str, width: usize) -> Vec<&str> {
    let (mut pieces, mut from, mut columns) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        columns += character.width().unwrap_or(0);
        if columns > width.max(2) {
            pieces.push(&text[from..at]);
            (from, columns) = (at, character.width().unwrap_or(0));
        }
    }
    pieces.push(&text[from..]);
    pieces
}

/// Columns that are left of a name at least.
const NAME_COLUMNS_MIN: usize = 8;

/// What `text` says of `name`, which is cut as far as it helps to bring that into `columns`.
pub(super) fn with_short_name(name: &str, columns: usize, text: impl Fn(&str) -> String) -> String {
    let whole = text(name);
    let excess = whole.width().saturating_sub(columns);
    let room = name.width().saturating_sub(excess).max(NAME_COLUMNS_MIN);
    if excess > 0 { text(&cut(name, room)) } else { whole }
}

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Columns of words are not squeezed below this while another one can be left out: less says nothing.
const SQUEEZED_USEFUL: usize = 8;

/// Columns of words are not squeezed below this.
const SQUEEZED_MIN: usize = 4;

/// Rows of cells, each column as wide as its widest cell; but where that is more than `width`, the widest columns of
/// words are squeezed, and what is in them is cut. Where that is not enough, as many of `dispensable` are left out as it
/// takes, the first first.
pub(super) fn columns<const N: usize>(
    rows: &[[String; N]],
    sides: [Side; N],
    dispensable: &[usize],
    width: Option<usize>,
) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    if let Some(width) = width {
        fit(&mut widths, sides, dispensable, width);
    }
    rows.iter().map(|row| line(row, &widths, sides)).collect()
}

fn fit<const N: usize>(widths: &mut [usize; N], sides: [Side; N], dispensable: &[usize], width: usize) {
    for left_out in 0..=dispensable.len() {
        let mut fewer = *widths;
        for column in &dispensable[..left_out] {
            fewer[*column] = 0;
        }
        let is_last = left_out == dispensable.len();
        if squeeze(&mut fewer, sides, width, if is_last { SQUEEZED_MIN } else { SQUEEZED_USEFUL }) || is_last {
            *widths = fewer;
            return;
        }
    }
}

/// Whether it fits now.
fn squeeze<const N: usize>(widths: &mut [usize; N], sides: [Side; N], width: usize, least: usize) -> bool {
    let shown = widths.iter().filter(|width| **width > 0).count();
    let mut excess = (widths.iter().sum::<usize>() + GAP * shown.saturating_sub(1)).saturating_sub(width);
    while excess > 0 {
        let words = widths.iter_mut().zip(sides).filter(|(_, side)| *side == Side::Left).map(|(width, _)| width);
        let Some(widest) = words.max().filter(|widest| **widest > least) else { return false };
        *widest -= 1;
        excess -= 1;
    }
    true
}

fn line<const N: usize>(row: &[String; N], widths: &[usize; N], sides: [Side; N]) -> String {
    let mut text = String::new();
    for ((cell, width), side) in row.iter().zip(widths).zip(sides) {
        if *width == 0 {
            continue;
        }
        let cell = cut(cell, *width);
        let blanks = " ".repeat(width - cell.width());
        match side {
            Side::Left => text.extend([cell.as_str(), &blanks]),
            Side::Right => text.extend([&blanks, cell.as_str()]),
        }
        text.push_str(&" ".repeat(GAP));
    }
    text.truncate(text.trim_end().len());
    text
}

/// `1st`, `2nd`, `3rd`, `4th`, …
pub(super) fn ordinal(number: u64) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_obey_is_left() {
        assert_eq!(printable("a\u{200b}b\u{feff}c\u{2066}"), "a\\u{200b}b\\u{feff}c\\u{2066}");
        assert_eq!(printable("a\x1b[2Jb\nc\t\u{9b}d\u{202e}e é漢"), "a\\u{1b}[2Jb\\nc\\t\\u{9b}d\\u{202e}e é漢");
    }

    #[test]
    fn text_is_cut_by_the_columns_it_takes() {
        assert_eq!(cut("漢字漢字", 8), "漢字漢字");
        assert_eq!(cut("漢字漢字", 7), "漢字漢…");
        assert_eq!(cut("漢字漢字", 6), "漢字…", "half a character is none");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcdef", 1), "…");
        assert_eq!(cut("abcdef", 0), "");
    }

    #[test]
    fn a_sentence_is_wrapped_and_nothing_of_it_is_lost() {
        let screen = |width| Screen { width, colour: false };
        let parts = ["policy:", "max-queue 20,", "rate 10/1m"];
        assert_eq!(screen(None).wrap(2, &parts), ["  policy: max-queue 20, rate 10/1m"]);
        assert_eq!(screen(Some(34)).wrap(2, &parts), ["  policy: max-queue 20, rate 10/1m"]);
        assert_eq!(screen(Some(33)).wrap(2, &parts), ["  policy: max-queue 20,", "    rate 10/1m"]);
        assert_eq!(screen(Some(9)).wrap(2, &["a", "bcdefgh", "i"]), ["  a bcdef", "    gh i"]);
    }

    #[test]
    fn a_name_makes_room_for_what_is_said_of_it() {
        let shown = |columns| with_short_name("a-long-name.example", columns, |name| format!("{name}: 2 wait"));
        assert_eq!(shown(27), "a-long-name.example: 2 wait");
        assert_eq!(shown(20), "a-long-name…: 2 wait");
        assert_eq!(shown(5), "a-long-…: 2 wait");
    }

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell_and_an_empty_one_is_left_out() {
        let rows = [["1", "", "漢", "x"], ["22", "", "b", ""]].map(|row| row.map(str::to_owned));
        let shown = columns(&rows, [Side::Right, Side::Left, Side::Left, Side::Left], &[], None);
        assert_eq!(shown, [" 1  漢  x", "22  b"]);
    }

    #[test]
    fn the_widest_words_make_room() {
        let rows = [["runs", "123456", "./a-long-command"], ["1st, away", "7", "-"]].map(|row| row.map(str::to_owned));
        let shown = |width| columns(&rows, [Side::Left, Side::Right, Side::Left], &[], Some(width));
        assert_eq!(shown(35), ["runs       123456  ./a-long-command", "1st, away       7  -"]);
        assert_eq!(shown(30), ["runs       123456  ./a-long-c…", "1st, away       7  -"]);
        assert_eq!(shown(22), ["runs    123456  ./a-l…", "1st, …       7  -"]);
        assert_eq!(shown(5), ["runs  123456  ./a…", "1st…       7  -"], "numbers stay whole");
    }

    #[test]
    fn a_column_that_would_say_nothing_is_left_out() {
        let rows = [["ana-maria", "42", "over its 10s", "./deploy.sh"]].map(|row| row.map(str::to_owned));
        let sides = [Side::Left, Side::Right, Side::Left, Side::Left];
        let shown = |width| columns(&rows, sides, &[2, 0], Some(width));
        assert_eq!(shown(40), ["ana-maria  42  over its 10s  ./deploy.sh"]);
        assert_eq!(shown(36), ["ana-maria  42  over its …  ./deploy…"]);
        assert_eq!(shown(31), ["ana-maria  42  ./deploy.sh"]);
        assert_eq!(shown(20), ["42  ./deploy.sh"]);
        assert_eq!(shown(10), ["42  ./dep…"]);
    }

    #[test]
    fn places_are_counted_in_english() {
        let shown = [1, 2, 3, 4, 11, 12, 13, 21, 101, 111, 112].map(ordinal);
        assert_eq!(shown.join(" "), "1st 2nd 3rd 4th 11th 12th 13th 21st 101st 111th 112th");
    }
}
