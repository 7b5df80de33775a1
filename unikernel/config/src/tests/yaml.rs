//! The language: what is understood, what is refused by name, and that nothing panics.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::yaml::{Problem, Value, parse};

fn text(text: &str) -> Value {
    Value::Text(text.to_string())
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::Map(entries.iter().map(|(key, value)| (key.to_string(), value.clone())).collect())
}

fn list(values: &[Value]) -> Value {
    Value::List(values.to_vec())
}

fn problem(text: &str) -> (usize, Problem) {
    let error = parse(text.as_bytes()).expect_err(text);
    (error.line, error.problem)
}

#[test]
fn mappings_and_sequences_nest_by_indentation() {
    let source = "\
# a comment
a: 1   # another
b:
  c: 'it''s'
  \"d e\": \"x\\ty\\u00fc\"
list:
- one
- k: v
  l: w
-
  - nested: yes
- - p
  - q
empty:
url: http://host/#x
";
    let expected = map(&[
        ("a", text("1")),
        ("b", map(&[("c", text("it's")), ("d e", text("x\tyü"))])),
        (
            "list",
            list(&[
                text("one"),
                map(&[("k", text("v")), ("l", text("w"))]),
                list(&[map(&[("nested", text("yes"))])]),
                list(&[text("p"), text("q")]),
            ]),
        ),
        ("empty", Value::Null),
        ("url", text("http://host/#x")),
    ]);
    assert_eq!(parse(source.as_bytes()), Ok(expected));
}

#[test]
fn texts_keep_their_lines() {
    let source =
        "a: |\n  one\n   two\n\n  three\nb: >-\n  x\n  y\n\n  z\nc: |2\n   in\nd: |+\n  k\n\ne: |-\n  last\n";
    let expected = map(&[
        ("a", text("one\n two\n\nthree\n")),
        ("b", text("x y\nz")),
        ("c", text(" in\n")),
        ("d", text("k\n\n")),
        ("e", text("last")),
    ]);
    assert_eq!(parse(source.as_bytes()), Ok(expected));
    assert_eq!(
        parse(b"- |\n  a: b\n  # no comment\n- c"),
        Ok(list(&[text("a: b\n# no comment\n"), text("c")]))
    );
}

#[test]
fn json_is_understood() {
    let source = "{\n \"a\": [1, \"two\", {\"b\": null}],\n \"c\": {}, d: [ ],\n}\n";
    let expected = map(&[
        ("a", list(&[text("1"), text("two"), map(&[("b", Value::Null)])])),
        ("c", map(&[])),
        ("d", list(&[])),
    ]);
    assert_eq!(parse(source.as_bytes()), Ok(expected));
    assert_eq!(parse(b"a: [x, y]\r\nb: {c: d}\r\n").unwrap().get("b"), &map(&[("c", text("d"))]));
}

#[test]
fn documents_begin_and_end() {
    assert_eq!(parse(b""), Ok(Value::Null));
    assert_eq!(parse(b"#cloud-config\n"), Ok(Value::Null));
    assert_eq!(parse(b"---\na: b\n...\n"), Ok(map(&[("a", text("b"))])));
    assert_eq!(problem("a: b\n---\nc: d\n"), (2, Problem::SecondDocument));
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (source, expected) in [
        ("a: b\n\tc: d", (2, Problem::Tab)),
        ("a: b\n   c: d", (2, Problem::Indentation)),
        ("a:\n    b: c\n  d: e", (3, Problem::Indentation)),
        ("a: b\nc", (2, Problem::NoKey)),
        ("a: b\na: c", (2, Problem::KeyTwice)),
        ("{a: b, a: c}", (1, Problem::KeyTwice)),
        ("a: \"b", (1, Problem::NotClosed)),
        ("a: [b\nc: d", (2, Problem::NotClosed)),
        ("a: 'b' c", (1, Problem::NotClosed)),
        ("a: \"\\q\"", (1, Problem::Escape)),
        ("a: b: c", (1, Problem::Colon)),
        ("a: &x b", (1, Problem::NotSupported)),
        ("a: *x", (1, Problem::NotSupported)),
        ("a: !!binary x", (1, Problem::NotSupported)),
        ("? a", (1, Problem::NotSupported)),
        ("%YAML 1.2\n---\na: b", (1, Problem::NotSupported)),
        ("<html>\n<body>: x y", (2, Problem::Indentation)),
    ] {
        assert_eq!(problem(source), expected, "{source:?}");
    }
    assert_eq!(parse(b"a: b\nc: \xff").unwrap_err().line, 2);
    assert_eq!(problem(&"[".repeat(100)).1, Problem::TooDeep);
    assert_eq!(problem(&"- ".repeat(100)).1, Problem::TooDeep);
    assert_eq!(problem(&"- a\n".repeat(5000)).1, Problem::TooLarge);
    assert_eq!(problem(&"\n".repeat(20_000)).1, Problem::TooLarge);
    assert_eq!(problem(&"x".repeat(300_000)).1, Problem::TooLarge);
}

/// Values as `serde_json` or Python's `json` would write them.
fn json(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Text(text) => quoted(text),
        Value::List(values) => {
            alloc::format!("[{}]", values.iter().map(json).collect::<Vec<_>>().join(",\n "))
        }
        Value::Map(entries) => {
            let entries =
                entries.iter().map(|(key, value)| alloc::format!("{}: {}", quoted(key), json(value)));
            alloc::format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|character| match character {
        '"' | '\\' => alloc::format!("\\{character}"),
        other if other.is_control() => alloc::format!("\\u{:04x}", u32::from(other)),
        other => other.to_string(),
    });
    alloc::format!("\"{}\"", escaped.collect::<String>())
}

/// The same by indentation.
fn block(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    match value {
        Value::List(values) if !values.is_empty() => {
            values.iter().map(|value| alloc::format!("\n{pad}-{}", block(value, indent + 2))).collect()
        }
        Value::Map(entries) if !entries.is_empty() => {
            let entry = |(key, value): &(String, Value)| {
                alloc::format!("\n{pad}{}:{}", quoted(key), block(value, indent + 2))
            };
            entries.iter().map(entry).collect()
        }
        other => alloc::format!(" {}", json(other)),
    }
}

/// Found by fuzzing: what Unicode calls white space was left out of a line, and places in it were counted wrongly.
#[test]
fn white_space_is_spaces_and_tabs() {
    let entry =
        |key: &str, value: &str| Value::Map(alloc::vec![(key.to_string(), Value::Text(value.to_string()))]);
    assert_eq!(parse("\r \u{3000}: \"x\"".as_bytes()), Ok(entry("\r \u{3000}", "x")));
    assert_eq!(parse("\u{a0}key:\tvalue\u{a0}\t".as_bytes()), Ok(entry("\u{a0}key", "value\u{a0}")));
    assert_eq!(parse("\u{3000}".as_bytes()), Ok(Value::Text("\u{3000}".to_string())));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), ".{0,12}".prop_map(Value::Text)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            proptest::collection::btree_map("[a-z:# -]{1,6}", inner, 0..4)
                .prop_map(|entries| Value::Map(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in values()) {
        prop_assert_eq!(parse(json(&value).as_bytes()), Ok(value.clone()));
        prop_assert_eq!(parse(block(&value, 0).as_bytes()), Ok(value));
    }

    #[test]
    fn nothing_panics(source in "[a-c:#|>\\-\\[\\]{}'\",&*!?% \t\r\n\\\\+1\u{a0}\u{3000}\u{feff}]{0,80}") {
        let _ = parse(source.as_bytes());
    }

    #[test]
    fn no_bytes_panic(source in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&source);
    }
}
