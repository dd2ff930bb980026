//! How long the edit of a long file takes: `cargo bench -p watcher-core`.
#![allow(missing_docs, clippy::expect_used)]

use std::time::{Duration, Instant};

use watcher_core::yaml::{Values, edit};

const LINES: usize = 20_000;
const ROUNDS: usize = 30;

fn main() {
    let plain: String = (0..LINES).map(|n| format!("key{n}: value {n} # comment\n")).collect();
    let nested: String = (0..LINES)
        .map(|n| if n % 4 == 0 { format!("- id: {n}\n") } else { format!("  key{n}: \"値 {n}\"\n") })
        .collect();
    for (name, text, path) in [
        ("one mapping", plain, "key19999".to_owned()),
        ("a sequence of mappings", nested, "[4999].key19999".to_owned()),
    ] {
        let path = path.parse().expect("a path");
        let wanted = Values { document: None, set: vec![(path, "db02:5432".to_owned())] };
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                let edited = edit(&text, &wanted).expect("an edit");
                let took = begun.elapsed();
                assert_eq!(edited.replaced.len(), 1);
                took
            })
            .collect();
        times.sort();
        println!(
            "{LINES} lines, {name}: median {:.1} ms, best {:.1} ms",
            times[ROUNDS / 2].as_secs_f64() * 1e3,
            times[0].as_secs_f64() * 1e3
        );
    }
}
