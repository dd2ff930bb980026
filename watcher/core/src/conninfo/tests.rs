#![allow(clippy::unwrap_used)]

use super::*;

fn complete(text: &str) -> Result<Parameters, String> {
    Conninfo::parse(text)?.complete(&Pairs::new())
}

fn pairs(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn endpoint(host: Option<&str>, hostaddr: Option<&str>, port: u16) -> Endpoint {
    Endpoint { host: host.map(str::to_owned), hostaddr: hostaddr.map(|text| text.parse().unwrap()), port }
}

#[test]
fn keywords_and_uris_say_the_same() {
    let want = Parameters {
        endpoints: vec![endpoint(Some("fd00::1"), None, 5433)],
        dbname: Some("pg state".to_owned()),
        user: Some("keeper'watch".to_owned()),
        password: None,
        passfile: Some("/etc/p".to_owned()),
        sslmode: SslMode::Disable,
        sslrootcert: None,
        sslcert: Some("/etc/c".to_owned()),
        sslkey: Some("/etc/k".to_owned()),
        shows_certificate: true,
        application_name: None,
        options: None,
        connect_timeout: Some(3),
    };
    for text in [
        r"host=fd00::1 port = 5433  dbname='pg state' user=keeper\'watch passfile=/etc/p sslmode=disable connect_timeout=3 sslcert=/etc/c sslkey=/etc/k",
        "postgresql://keeper'watch@[fd00::1]:5433/pg%20state?passfile=/etc/p&sslmode=disable&connect_timeout=3&sslcert=/etc/c&sslkey=/etc/k",
        "postgres://keeper%27watch@[fd00::1]:5433/pg%20state?passfile=%2Fetc%2Fp&sslmode=disable&connect_timeout=3&sslcert=/etc/c&sslkey=/etc/k",
    ] {
        assert_eq!(complete(text), Ok(want.clone()), "{text}");
    }
}

#[test]
fn defaults_are_those_of_libpq() {
    let got = complete("host=db01 user='' connect_timeout=0 target_session_attrs=any").unwrap();
    assert_eq!(got.endpoints, [endpoint(Some("db01"), None, 5432)]);
    assert_eq!((got.user, got.dbname, got.connect_timeout, got.sslmode), (None, None, None, SslMode::Prefer));
    let folder = |text| complete(text).unwrap().endpoints[0].socket_folder().map(str::to_owned);
    assert_eq!(folder("postgresql:///x?host=/run/postgresql").as_deref(), Some("/run/postgresql"));
    assert_eq!(folder("host=db01 hostaddr=10.0.0.1"), None);
    let system = complete("host=db01 sslrootcert=system").unwrap();
    assert_eq!((system.sslmode, system.sslrootcert), (SslMode::VerifyFull, Some(SslRootCert::System)));
}

#[test]
fn a_node_may_have_several_addresses() {
    for (text, want) in [
        ("host=a,b port=5433", [endpoint(Some("a"), None, 5433), endpoint(Some("b"), None, 5433)]),
        ("host=a,b port=1,2", [endpoint(Some("a"), None, 1), endpoint(Some("b"), None, 2)]),
        ("postgresql://a:1,[::1]/x", [endpoint(Some("a"), None, 1), endpoint(Some("::1"), None, 5432)]),
        ("host=a,b hostaddr=,10.0.0.2", [endpoint(Some("a"), None, 5432), endpoint(Some("b"), Some("10.0.0.2"), 5432)]),
        ("hostaddr=10.0.0.1,::1", [endpoint(None, Some("10.0.0.1"), 5432), endpoint(None, Some("::1"), 5432)]),
    ] {
        assert_eq!(complete(text).unwrap().endpoints, want, "{text}");
    }
}

#[test]
fn a_service_goes_between_the_string_and_the_defaults() {
    let defaults = pairs(&[("sslmode", "verify-ca"), ("sslrootcert", "/default"), ("passfile", "/default")]);
    let conninfo = Conninfo::with_defaults("service=db01 port=5433 sslmode=require", defaults).unwrap();
    assert_eq!((conninfo.service(), conninfo.service_file()), (Some("db01"), None));
    let service = pairs(&[("host", "a"), ("port", "1"), ("sslmode", "disable"), ("passfile", "/s"), ("password", "p")]);
    let got = conninfo.complete(&service).unwrap();
    assert_eq!(got.endpoints, [endpoint(Some("a"), None, 5433)]);
    assert_eq!((got.sslmode, got.passfile.as_deref()), (SslMode::Require, Some("/s")));
    assert_eq!(got.sslrootcert, Some(SslRootCert::File("/default".to_owned())));
    assert!(!format!("{got:?}").contains("\"p\""), "{got:?}");
    assert!(conninfo.complete(&Pairs::new()).unwrap_err().contains("host is missing"));
    assert!(conninfo.complete(&pairs(&[("host", "a"), ("hots", "b")])).unwrap_err().contains("hots"));
}

#[test]
fn two_strings_that_lead_to_one_server_are_seen_to() {
    let leads = |one: &str, two: &str| Conninfo::parse(one).unwrap().is_same_server(&Conninfo::parse(two).unwrap());
    assert!(leads("host=a,b", "host=c,b user=x"));
    assert!(!leads("host=a", "host=a port=5433"));
    assert!(leads("service=a", "service=a"));
    assert!(!leads("service=a", "service=b"));
}

#[test]
fn what_is_wrong_is_named_and_secrets_are_not() {
    for (text, part) in [
        ("", "host is missing"),
        ("dbname=x", "host is missing"),
        ("host=a password=s3cret", "passfile"),
        ("postgresql://u:s3cret@a/x", "passfile"),
        ("service=a password=s3cret", "passfile"),
        ("host=a password=my s3cret", "an = is missing"),
        ("host=a password='my s3cret", "no closing '"),
        ("host=a,,b", "is empty"),
        ("host=a,b port=1,2,3", "3 ports for 2 hosts"),
        ("host=a,b hostaddr=::1", "2 hosts and 1 addresses"),
        ("host=a port=0", "is not a port"),
        ("service=a port=0", "is not a port"),
        ("host=a port=5432x", "is not a port"),
        ("host=a hostaddr=x", "is not an IP address"),
        ("host=a sslmode=yes", "sslmode \"yes\" is unknown"),
        ("host=a sslmode=require sslrootcert=system", "use verify-full"),
        ("host=a sslcert=c.crt", "is not an absolute path"),
        ("host=a sslpassword=s3cret", "sslpassword is not supported here"),
        ("host=a target_session_attrs=read-write", "target_session_attrs is not supported here"),
        ("host=a hots=b", "keyword \"hots\" is unknown"),
        ("service=a hots=b", "keyword \"hots\" is unknown"),
        ("postgresql://[::1/x", "a ] is missing"),
        ("postgresql://a/x%zz", "hexadecimal"),
    ] {
        let error = Conninfo::parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
        assert!(!error.contains("s3cret"), "{text}: {error}");
    }
}
