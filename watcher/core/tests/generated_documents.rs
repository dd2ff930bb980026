//! Generated documents: whatever stands around a scalar, the edit changes that scalar and not one byte else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::num::NonZeroUsize;

use watcher_core::yaml::{Values, edit};

#[path = "common/oracle.rs"]
mod oracle;

/// Small random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }
}

/// A document in the making: its text, and the scalars in it by path and place.
#[derive(Default)]
struct Draft {
    text: String,
    scalars: Vec<(String, std::ops::Range<usize>)>,
    keys: usize,
}

const SCALARS: [&str; 16] = [
    "db01:5432",
    "10.0.0.10",
    "\"db01\"",
    "'db01'",
    "'it''s # no comment'",
    "\"a \\\" # b\"",
    "5432",
    "日本語",
    "\"東京: 主\"",
    "a b c",
    "~",
    "true",
    "http://db01/#x",
    "-x",
    "\"\"",
    "'{not: flow}'",
];
const COMMENTS: [&str; 6] = ["", "", " # comment", "   # 主系 'it' \"is\"", " # key: value", " "];
const NEW_VALUES: [&str; 8] = ["db02:5432", "10.0.0.11", "5433", "[::1]:5432", "it's", "a \"b\" \\ c", "主系", "no"];

impl Draft {
    fn scalar(&mut self, dice: &mut Dice, path: &str, flow: bool) {
        let mut raw = dice.pick(&SCALARS);
        if flow && raw.starts_with("http") {
            raw = "x";
        }
        if dice.roll(8) == 0 {
            self.text.push_str(dice.pick(&["&anchor", "!!str ", "&b !!str "]));
            if self.text.ends_with("anchor") {
                self.text.push_str(&format!("{} ", self.keys));
            }
        }
        let from = self.text.len();
        self.text.push_str(raw);
        self.scalars.push((path.to_owned(), from..self.text.len()));
    }

    fn key(&mut self, dice: &mut Dice) -> (String, String) {
        self.keys += 1;
        let number = self.keys;
        match dice.roll(4) {
            0 => (format!("\"k.{number}\""), format!("\"k.{number}\"")),
            1 => (format!("鍵{number}"), format!("鍵{number}")),
            2 => (format!("'k {number}'"), format!("k {number}")),
            _ => (format!("k{number}"), format!("k{number}")),
        }
    }

    fn mapping(&mut self, dice: &mut Dice, path: &str, indent: usize, depth: usize, end: &str) {
        for _ in 0..1 + dice.roll(4) {
            if dice.roll(5) == 0 {
                self.text.push_str(&format!("{}# 注: \"x\"{end}", " ".repeat(dice.roll(6))));
            }
            let (raw, step) = self.key(dice);
            let path = if path.is_empty() { step } else { format!("{path}.{step}") };
            self.text.push_str(&format!("{}{raw}:", " ".repeat(indent)));
            match dice.roll(if depth > 2 { 4 } else { 7 }) {
                0 => self.flow(dice, &path, 0),
                1 => self.text.push_str(&format!(" |{end}{0}text: x # kept{end}{0}  more", " ".repeat(indent + 2))),
                2 | 3 => {
                    self.text.push(' ');
                    self.scalar(dice, &path, false);
                    self.text.push_str(dice.pick(&COMMENTS));
                }
                4 | 5 => {
                    self.text.push_str(&format!("{}{end}", dice.pick(&COMMENTS)));
                    let deeper = indent + 1 + dice.roll(3);
                    self.mapping(dice, &path, deeper, depth + 1, end);
                    continue;
                }
                _ => {
                    for item in 0..1 + dice.roll(3) {
                        self.text.push_str(&format!("{end}{}- ", " ".repeat(indent + 2)));
                        self.scalar(dice, &format!("{path}[{item}]"), false);
                        self.text.push_str(dice.pick(&COMMENTS));
                    }
                }
            }
            self.text.push_str(end);
        }
    }

    fn flow(&mut self, dice: &mut Dice, path: &str, depth: usize) {
        self.text.push_str(" {");
        for at in 0..1 + dice.roll(3) {
            if at > 0 {
                self.text.push_str(dice.pick(&[", ", " , "]));
            }
            let (raw, step) = self.key(dice);
            self.text.push_str(&format!("{raw}: "));
            match dice.roll(3) {
                0 if depth < 2 => {
                    self.text.pop();
                    self.flow(dice, &format!("{path}.{step}"), depth + 1);
                }
                1 => {
                    self.text.push('[');
                    self.scalar(dice, &format!("{path}.{step}[0]"), true);
                    self.text.push(']');
                }
                _ => self.scalar(dice, &format!("{path}.{step}"), true),
            }
        }
        self.text.push('}');
    }
}

/// A file: one to three documents, and the number of the one that is edited.
fn file(dice: &mut Dice) -> (Draft, usize, usize) {
    let end = dice.pick(&["\n", "\n", "\r\n"]);
    let count = if dice.roll(4) == 0 { 2 + dice.roll(2) } else { 1 };
    let chosen = 1 + dice.roll(count);
    let mut file = Draft::default();
    file.text.push_str(dice.pick(&["", "", "\u{feff}", "# 先頭\n"]));
    for number in 1..=count {
        if number > 1 || dice.roll(4) == 0 {
            file.text.push_str(&format!("---{end}"));
        }
        if dice.roll(3) == 0 {
            // What is repeated elsewhere is no obstacle to an edit of something else.
            file.text.push_str(&format!("base: &base{end}  x: 1{end}use: {{<<: *base, y: *base}}{end}"));
        }
        let mut draft = Draft { text: std::mem::take(&mut file.text), keys: file.keys, scalars: Vec::new() };
        draft.mapping(dice, "", 0, 0, end);
        (file.text, file.keys) = (draft.text, draft.keys);
        if number == chosen {
            file.scalars = draft.scalars;
        }
    }
    let last = file.scalars.iter().map(|(_, place)| place.end).max().unwrap_or(0);
    if dice.roll(4) == 0 && file.text.trim_end().len() >= last {
        file.text.truncate(file.text.trim_end().len());
    }
    (file, count, chosen)
}

#[test]
fn nothing_but_the_scalar_changes() {
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let mut edits = 0;
    for number in 0..2_000 {
        let (draft, count, chosen) = file(&mut dice);
        if draft.scalars.is_empty() {
            continue;
        }
        let (path, place) = draft.scalars[dice.roll(draft.scalars.len())].clone();
        let value = dice.pick(&NEW_VALUES);
        let document = NonZeroUsize::new(chosen).filter(|_| count > 1);
        let wanted = Values { document, set: vec![(path.parse().unwrap(), value.to_owned())] };
        let text = &draft.text;
        let edited = match edit(text, &wanted) {
            Ok(edited) => edited,
            Err(error) => panic!("file {number}, {path} = {value:?}: {error}\n{text}"),
        };
        edits += edited.replaced.len();
        let (before, after) = (&text[..place.start], &text[place.end..]);
        assert!(
            edited.text.starts_with(before) && edited.text.ends_with(after),
            "file {number}, {path} = {value:?}\n{text}\n=>\n{}",
            edited.text
        );
        let raw = &edited.text[before.len()..edited.text.len() - after.len()];
        let old = &text[place];
        if let Some(quote) = old.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            assert!(raw.starts_with(quote) && raw.ends_with(quote), "{old} => {raw}");
        }
        assert!(edit(&edited.text, &wanted).unwrap().replaced.is_empty());
        oracle::edit_one(text, dice.roll(1_000), dice.roll(1_000));
    }
    assert!(edits > 1_000, "{edits}");
}

#[test]
fn all_values_change_at_once() {
    let mut dice = Dice(0xD1B5_4A32_D192_ED03);
    for number in 0..1_000 {
        let (mut draft, count, chosen) = file(&mut dice);
        draft.scalars.sort_by_key(|(_, place)| place.start);
        let mut expected = String::new();
        let mut done = 0;
        for (_, place) in &draft.scalars {
            let quote = draft.text[place.clone()].chars().next().filter(|c| matches!(c, '"' | '\''));
            let quote = quote.map(String::from).unwrap_or_default();
            expected.push_str(&draft.text[done..place.start]);
            expected.push_str(&format!("{quote}db02.example.com{quote}"));
            done = place.end;
        }
        expected.push_str(&draft.text[done..]);
        let set = draft.scalars.iter().rev().map(|(path, _)| (path.parse().unwrap(), "db02.example.com".to_owned()));
        let wanted = Values { document: NonZeroUsize::new(chosen).filter(|_| count > 1), set: set.collect() };
        match edit(&draft.text, &wanted) {
            Ok(edited) => assert_eq!(edited.text, expected, "file {number}"),
            Err(error) => panic!("file {number}: {error}\n{}", draft.text),
        }
    }
}

#[test]
fn damaged_documents_are_refused_or_edited_right() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let marks = [
        ":", "-", "?", "{", "}", "[", "]", ",", "#", "&a", "*a", "!x", "|", ">", "'", "\"", "%", "@", "`", "\t", "\n",
        " ", "\u{85}", "<<", "\\", "---\n", "...\n", "\r", "\u{2028}", "\u{feff}",
    ];
    for _ in 0..4_000 {
        let (draft, ..) = file(&mut dice);
        let mut chars: Vec<String> = draft.text.chars().map(String::from).collect();
        for _ in 0..1 + dice.roll(4) {
            let at = dice.roll(chars.len());
            match dice.roll(3) {
                0 => chars[at].clear(),
                1 => chars[at].push_str(dice.pick(&marks)),
                _ => chars[at] = dice.pick(&marks).to_owned(),
            }
        }
        oracle::edit_one(&chars.concat(), dice.roll(1_000), dice.roll(1_000));
    }
}
