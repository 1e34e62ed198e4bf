//! System calls that no safe library offers, each with the reason why it is sound here.
