#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn run(text: &str, wanted: &[(&str, &str)]) -> Result<Edited, EditError> {
    run_in(None, text, wanted)
}

fn run_in(document: Option<usize>, text: &str, wanted: &[(&str, &str)]) -> Result<Edited, EditError> {
    let set = wanted.iter().map(|(path, value)| (path.parse().unwrap(), (*value).to_owned())).collect();
    edit(text, &Values { document: document.map(|number| number.try_into().unwrap()), set })
}

/// Text before, path, value, text after.
const GOLDEN: &[(&str, &str, &str, &str)] = &[
    ("a: db01:5432\n", "a", "db02:5432", "a: db02:5432\n"),
    ("a: \"db01\"   # the primary\n", "a", "db02", "a: \"db02\"   # the primary\n"),
    ("a: 'd''b' # it's\nb: \"d\\\"\" # \"\n", "a", "db02", "a: 'db02' # it's\nb: \"d\\\"\" # \"\n"),
    ("a: \"d\\\\\\\"b\" # \"\nb: 1\n", "a", "db02", "a: \"db02\" # \"\nb: 1\n"),
    ("a: 'db01'\n", "a", "db02", "a: 'db02'\n"),
    ("a: db01", "a", "db02", "a: db02"),
    ("a:   db01   \r\nb: 1\r\n", "a", "db02", "a:   db02   \r\nb: 1\r\n"),
    ("\u{feff}a: db01\n", "a", "db02", "\u{feff}a: db02\n"),
    ("port: 5432\n", "port", "5433", "port: 5433\n"),
    ("port: '5432'\n", "port", "5433", "port: '5433'\n"),
    ("a: db01\n", "a", "[::1]:5432", "a: \"[::1]:5432\"\n"),
    ("{a: db01, b: {c: [1, db01]}}", "b.c[1]", "db02", "{a: db01, b: {c: [1, db02]}}"),
    ("x: [{a: db01}, {a: db01}]\n", "x[1].a", "db02", "x: [{a: db01}, {a: db02}]\n"),
    ("\"a.b\":\n- db01\n", "\"a.b\"[0]", "db02", "\"a.b\":\n- db02\n"),
    (
        "# 本番環境\n主系:\n  - 名前: 東京 # 注意\n    住所: 'db01'\n",
        "主系[0].住所",
        "db02",
        "# 本番環境\n主系:\n  - 名前: 東京 # 注意\n    住所: 'db02'\n",
    ),
    ("k: &k {z: 1}\nl: *k\na: &unused db01\n", "a", "db02", "k: &k {z: 1}\nl: *k\na: &unused db02\n"),
    ("a: !!str db01\nb: !own x\n", "a", "db02", "a: !!str db02\nb: !own x\n"),
    (
        "a: db01\nb: |\n  a: db01\n  # no comment\nc: >-\n  x\n",
        "a",
        "db02",
        "a: db02\nb: |\n  a: db01\n  # no comment\nc: >-\n  x\n",
    ),
    ("a: \"db\\\n  01\"\nb: 1\n", "a", "db02", "a: \"db02\"\nb: 1\n"),
    ("a: one\n  two\nb: 1\n", "a", "db02", "a: db02\nb: 1\n"),
    ("a: ~\n", "a", "db02", "a: db02\n"),
    ("a: db01\nb: |\n  x", "a", "db02", "a: db02\nb: |\n  x"),
    ("a: db01\nb: |+\n  x\n\n", "a", "db02", "a: db02\nb: |+\n  x\n\n"),
    ("---\na: db01\n...\n", "a", "db02", "---\na: db02\n...\n"),
    ("%YAML 1.2\n---\na: db01\n", "a", "db02", "%YAML 1.2\n---\na: db02\n"),
    ("? a\n: db01\n", "a", "db02", "? a\n: db02\n"),
    ("5432: db01\n", "5432", "db02", "5432: db02\n"),
    ("- - db01\n  - x\n", "[0][0]", "db02", "- - db02\n  - x\n"),
    ("a: http://db01/#x # y\n", "a", "http://db02/", "a: http://db02/ # y\n"),
    ("base: &b {x: 1}\nm:\n  <<: *b\n  a: db01\n", "m.a", "db02", "base: &b {x: 1}\nm:\n  <<: *b\n  a: db02\n"),
    ("a: db01\nurl: \"${HOME}/{{ x }}\"\n", "a", "db02", "a: db02\nurl: \"${HOME}/{{ x }}\"\n"),
    ("a: 😀\nb: 😀db01\n", "b", "db02", "a: 😀\nb: db02\n"),
    ("a: 'x'\n\n\n", "a", "it's", "a: 'it''s'\n\n\n"),
    ("a: !!str &x # why\n  # more\n  'db01' # it\n", "a", "db02", "a: !!str &x # why\n  # more\n  'db02' # it\n"),
    ("a: &x\n  db01\n", "a", "db02", "a: &x\n  db02\n"),
];

#[test]
fn only_the_scalar_changes() {
    for (before, path, value, after) in GOLDEN {
        let got = run(before, &[(path, value)]);
        let Ok(got) = got else { panic!("{before:?}: {got:?}") };
        assert_eq!(got.text, *after);
        assert_eq!(got.replaced.len(), 1);
        let again = run(after, &[(path, value)]).unwrap();
        assert_eq!((again.text.as_str(), again.replaced.len()), (*after, 0));
    }
}

#[test]
fn several_values_change_at_once_and_are_told() {
    let text = "db_master:\n  - address: db01:5432 # now\ndb_slave:\n  - {address: \"db01:5432\", port: 5432}\n";
    let got = run(
        text,
        &[("db_slave[0].port", "5433"), ("db_slave[0].address", "db02:5433"), ("db_master[0].address", "db02:5433")],
    )
    .unwrap();
    assert_eq!(
        got.text,
        "db_master:\n  - address: db02:5433 # now\ndb_slave:\n  - {address: \"db02:5433\", port: 5433}\n"
    );
    let told: Vec<(String, usize, &str, &str)> =
        got.replaced.iter().map(|r| (r.path.to_string(), r.line, r.from.as_str(), r.to.as_str())).collect();
    assert_eq!(
        told,
        [
            ("db_master[0].address".to_owned(), 2, "db01:5432", "db02:5433"),
            ("db_slave[0].address".to_owned(), 4, "db01:5432", "db02:5433"),
            ("db_slave[0].port".to_owned(), 4, "5432", "5433"),
        ]
    );
}

#[test]
fn what_is_not_safe_is_refused_with_line_and_reason() {
    for (text, path, message) in [
        ("a: 1\n", "b", "line 1: b is not there: no key \"b\" here; add it to the file, or correct the path under set"),
        (
            "x:\n  a: 1\n",
            "x.b",
            "line 2: x.b is not there: no key \"b\" here; add it to the file, or correct the path under set",
        ),
        ("a: 1\nb: 2\na: 3\n", "a", "line 3: key \"a\" stands twice in one mapping, first on line 1"),
        (
            "k: &k db01\n\na: *k\n",
            "a",
            "line 3: a is an alias of the anchor on line 1; write the value out here, so that it can be changed alone",
        ),
        (
            "k: &k {h: db01}\na: *k\n",
            "a.h",
            "line 2: a is an alias of the anchor on line 1; write the value out here, so that it can be changed alone",
        ),
        (
            "a: &k db01\nb: *k\n",
            "a",
            "line 1: a would change on line 2 too: a bears the anchor on line 1, which is repeated there; write the values out",
        ),
        (
            "base: &b\n  h: db01\n\nprod:\n  <<: *b\n",
            "base.h",
            "line 2: base.h would change on line 5 too: base bears the anchor on line 1, which is repeated there; write the values out",
        ),
        (
            "&b\nh: [db01, *b]\n",
            "h[0]",
            "line 2: h[0] would change on line 2 too: the top of the file bears the anchor on line 1, which is repeated there; write the values out",
        ),
        (
            "k: &k {h: db01}\na:\n  <<: *k\n",
            "a.h",
            "line 3: a.h is merged in (<<) from the mapping on line 1; write key \"h\" out here, so that it can be changed alone",
        ),
        (
            "j: &j {h: 1}\nk: &k\n  <<: *j\na:\n  <<: [{x: 1}, *k]\n",
            "a.h",
            "line 5: a.h is merged in (<<) from the mapping on line 1; write key \"h\" out here, so that it can be changed alone",
        ),
        (
            "a:\n  <<: {s: {h: db01}}\n",
            "a.s.h",
            "line 2: a.s.h is merged in (<<) from the mapping on line 2; write key \"s\" out here, so that it can be changed alone",
        ),
        (
            "k: &k {h: db01}\na:\n  <<: *k\n",
            "a.b",
            "line 3: a.b is not there: no key \"b\" here; add it to the file, or correct the path under set",
        ),
        (
            "a: &a\n  <<: *a\n",
            "a.b",
            "line 1: a.b is not there: no key \"b\" here; add it to the file, or correct the path under set",
        ),
        ("a: ! db01\n", "a", "line 1: a bears the tag !, whose meaning is unknown here; remove the tag"),
        ("a: {b}\n", "a.b", "line 1: a.b has no value; write one, for example \"\""),
        (
            "a: {{ host }}:5432\n",
            "a",
            "line 1: not valid YAML: while parsing a block mapping, did not find expected key; the line holds the template mark {{: let the watcher edit the file that the template makes",
        ),
        (
            "{% if x %}\na: 1\n{% endif %}\n",
            "a",
            "line 1: not valid YAML: unexpected character: `%'; the line holds the template mark {%: let the watcher edit the file that the template makes",
        ),
        (
            "a: {{ db }}\n",
            "a.host",
            "line 1: a.host holds the template mark {{; let the watcher edit the file that the template makes",
        ),
        ("x:\n- a: 1\n  \tb: 1\n", "x[0].a", "line 3: a tab is used for indentation, which YAML forbids; use spaces"),
        (
            "a:\t\u{2}-b",
            "a",
            "line 1: the edited text would be not valid YAML: ':' must be followed by a valid YAML whitespace; the line holds a tab, use spaces; the file is left as it was",
        ),
        ("&k a: 1\n*k : 2\n", "a", "line 2: key \"a\" stands twice in one mapping, first on line 1"),
        ("a: {b: 1}\n", "a", "line 1: a is a mapping, not a single value; let the path lead to one value"),
        ("a:\n- 1\n", "a", "line 2: a is a sequence, not a single value; let the path lead to one value"),
        ("a: [1, 2]\n", "a[2]", "line 1: a[2] is not there: the sequence has 2 items, counted from 0"),
        ("a: 1\n", "a.b", "line 1: a.b is not there: a is a single value, not a mapping"),
        ("a: 1\n", "[0]", "line 1: [0] is not there: the top of the file is a mapping, not a sequence"),
        ("a: |\n  db01\n", "a", "line 2: a is a block scalar (| or >); write it on one line, in quotes"),
        ("a:\nb: 1\n", "a", "line 1: a has no value; write one, for example \"\""),
        ("a: &x\nb: 1\n", "a", "line 1: a has no value; write one, for example \"\""),
        ("a: !secret db01\n", "a", "line 1: a bears the tag !secret, whose meaning is unknown here; remove the tag"),
        (
            "a: \"{{ host }}\"\n",
            "a",
            "line 1: a holds the template mark {{; let the watcher edit the file that the template makes",
        ),
        (
            "a: {{ host }}\n",
            "a",
            "line 1: a holds the template mark {{; let the watcher edit the file that the template makes",
        ),
        (
            "a: <%= host %>\n",
            "a",
            "line 1: a holds the template mark <%; let the watcher edit the file that the template makes",
        ),
        (
            "a: ${HOST}\n",
            "a",
            "line 1: a holds the template mark ${; let the watcher edit the file that the template makes",
        ),
        ("", "a", "the file is empty, so it has no a"),
        ("# nothing\n", "a", "the file is empty, so it has no a"),
        ("a:\n\tb: 1\n", "a.b", "line 2: a tab is used for indentation, which YAML forbids; use spaces"),
    ] {
        assert_eq!(run(text, &[(path, "db02")]).unwrap_err().to_string(), message, "{text:?}");
    }
    assert!(run("a: [1\nb: 2\n", &[("a", "x")]).unwrap_err().to_string().contains("not valid YAML"));
}

#[test]
fn one_of_several_documents_is_edited() {
    let text = "# one\n---\na: db01 # x\n---\nb: &k db01\nc: *k\n...\n---\na: &k 'db01'\n";
    let edited = |document, path| run_in(Some(document), text, &[(path, "db02")]).map(|edited| edited.text);
    assert_eq!(edited(1, "a").unwrap(), text.replace("a: db01", "a: db02"));
    assert_eq!(edited(3, "a").unwrap(), text.replace("'db01'", "'db02'"));
    for (document, path, message) in [
        (
            Some(2),
            "b",
            "line 5: b would change on line 6 too: b bears the anchor on line 5, which is repeated there; write the values out",
        ),
        (Some(2), "a", "line 5: a is not there: no key \"a\" here; add it to the file, or correct the path under set"),
        (Some(4), "a", "there is no document 4: the file has 3; correct document in the target"),
        (
            None,
            "a",
            "line 4: a second YAML document begins here; write in the target which one is meant: document: 1 or document: 3; these have the paths under set",
        ),
        (
            None,
            "c",
            "line 4: a second YAML document begins here; write in the target which one is meant: document: 2, which alone has the paths under set",
        ),
        (
            None,
            "d",
            "line 4: a second YAML document begins here; write in the target which one is meant: document: 1 up to document: 3; none of them has all the paths under set",
        ),
    ] {
        assert_eq!(run_in(document, text, &[(path, "db02")]).unwrap_err().to_string(), message);
    }
    assert_eq!(run_in(Some(1), "a: db01\n", &[("a", "db02")]).unwrap().text, "a: db02\n");
    // A mark at the end begins another document, if an empty one.
    let marked = "a: db01\n---\n";
    assert!(run(marked, &[("a", "db02")]).is_err());
    assert_eq!(run_in(Some(1), marked, &[("a", "db02")]).unwrap().text, "a: db02\n---\n");
    assert_eq!(
        run_in(Some(2), marked, &[("a", "db02")]).unwrap_err().to_string(),
        "line 3: a is not there: the top of the file is a single value, not a mapping"
    );
}

#[test]
fn what_stands_elsewhere_may_be_anything() {
    // Numbers too large, no numbers, tags, words of two YAML versions, and what two YAML versions read differently.
    for other in [
        "12345678901234567890123",
        ".nan",
        "-.inf",
        "0o17",
        "1_000",
        "!!binary aGVsbG8=",
        "!own [1, {b: 2}]",
        "no",
        "~",
        "2001-12-14t21:59:43.10-05:00",
        "\"\\u65e5\\x41\\\\ \\\n  x\"",
        ">-\n  folded\n  text",
    ] {
        let text = format!("x: {other}\na: db01\ny: {other}\n");
        let after = format!("x: {other}\na: db02\ny: {other}\n");
        assert_eq!(run(&text, &[("a", "db02")]).unwrap().text, after);
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    assert_eq!(decode(b"a: 1\nb: \xff\n").unwrap_err().to_string(), "line 2: not UTF-8 text; save the file as UTF-8");
}

#[test]
fn a_long_file_is_edited_at_once() {
    let mut text = String::new();
    for number in 0..10_000 {
        text.push_str(&format!("key{number}: 値 {number} # 注\n# comment\n"));
    }
    text.push_str("a: db01\n");
    let got = run(&text, &[("a", "db02")]).unwrap();
    assert_eq!(got.text, text.replace("a: db01", "a: db02"));
}
