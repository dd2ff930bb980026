//! The password file of libpq: `hostname:port:database:username:password`, one per line.

/// The password of the first line that matches. `host` is what libpq would look for: the host, for a socket in the
/// default folder `localhost`.
pub fn find(text: &str, host: &str, port: u16, dbname: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (fields, password) = split(line)?;
        let fits = fields.iter().zip([host, &port, dbname, user]).all(|(field, want)| match field {
            Field::Any => true,
            Field::Text(text) => text == want,
        });
        (fits && !password.is_empty()).then_some(password)
    })
}

enum Field {
    Any,
    Text(String),
}

/// The four fields of a line and its password; `\` takes the next character as it stands.
fn split(line: &str) -> Option<([Field; 4], String)> {
    let mut chars = line.chars();
    let mut field = || {
        let (mut text, mut escaped) = (String::new(), false);
        loop {
            match chars.next()? {
                ':' => break,
                '\\' => {
                    escaped = true;
                    text.push(chars.next()?);
                }
                c => text.push(c),
            }
        }
        Some(if text == "*" && !escaped { Field::Any } else { Field::Text(text) })
    };
    let fields = [field()?, field()?, field()?, field()?];
    let mut password = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' => password.extend(chars.next()),
            ':' => break,
            c => password.push(c),
        }
    }
    Some((fields, password))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_line_that_matches_wins() {
        let text = "# db01:5432:*:*:comment\n\
                    nonsense\n\
                    db01:5432:pg_state:keeper_watch:one\n\
                    db01:*:*:*:two\n\
                    fd00\\:\\:1:5432:*:*:th\\:r\\\\ee\n\
                    *:*:*:o\\*:star\n";
        let ask = |host, port, user| find(text, host, port, "pg_state", user);
        assert_eq!(ask("db01", 5432, "keeper_watch").as_deref(), Some("one"));
        assert_eq!(ask("db01", 5433, "keeper_watch").as_deref(), Some("two"));
        assert_eq!(ask("fd00::1", 5432, "x").as_deref(), Some("th:r\\ee"));
        assert_eq!(ask("db09", 1, "o*").as_deref(), Some("star"));
        assert_eq!(ask("db09", 1, "other"), None);
    }
}
