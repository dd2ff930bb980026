//! The watcher's connections: TLS, certificates, services and addresses as libpq users know them, and what it leaves on a server.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use keeper_tests::authority::{Authority, Certified};
use keeper_tests::clock::now;
use keeper_tests::folder::{self, ClusterFolder};
use keeper_tests::host::Host;
use keeper_tests::install::install;
use keeper_tests::netns::with_hosts_file;
use keeper_tests::node::Node;
use keeper_tests::ports::Port;
use keeper_tests::template::template;
use keeper_tests::watcher::{Ended, Watcher, run_once_with};

/// The name in the server's certificate; only hosts files of our own know it.
const NAME: &str = "db01.test";

const ENTRY: &str = "local all all trust
hostssl all tls_only 127.0.0.1/32 trust
hostnossl all plain_only 127.0.0.1/32 trust
hostssl all with_certificate 127.0.0.1/32 cert
host all with_password 127.0.0.1/32 scram-sha-256
host all postgres 127.0.0.1/32 trust
";

const ROLES: &str = "create role tls_only login; create role plain_only login; create role with_certificate login;
create role with_password login password 'right'";

/// A server that speaks TLS, and a host that has files for talking to it. The other node is down.
struct Site {
    node: Node,
    host: Host,
    nowhere: Port,
    authority: Authority,
    stranger: Authority,
    // Last, so that it goes after the server that lives in it.
    cluster: ClusterFolder,
}

impl Site {
    fn create(name: &str) -> Result<Self> {
        let cluster = ClusterFolder::create(name)?;
        let node = Node::create(cluster.path(), "db01", None)?;
        node.copy_from(&template()?)?;
        let (authority, stranger) = (Authority::create("ours")?, Authority::create("somebody else's")?);
        certify(&node, &authority.certify(NAME)?)?;
        node.write("root.crt", authority.certificate())?;
        node.write("pg_hba.conf", ENTRY)?;
        node.configure(&["fsync = off", "ssl = on", "ssl_ca_file = 'root.crt'"].map(str::to_owned))?;
        node.start()?;
        node.sql("postgres", ROLES)?;
        let host = Host::create(cluster.path(), "host")?;
        Ok(Self { node, host, nowhere: Port::reserve()?, authority, stranger, cluster })
    }

    /// A file that the watcher may read.
    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.cluster.path().join(name);
        if let Some(folder) = path.parent() {
            folder::make(folder)?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        install()?.give_to_server_account(&path)?;
        Ok(path)
    }

    /// A node's certificate and key as files.
    fn identity(&self, by: &Authority, name: &str) -> Result<(PathBuf, PathBuf)> {
        let Certified { certificate, key } = by.certify(name)?;
        Ok((self.file(&format!("{name}.crt"), &certificate)?, self.file(&format!("{name}.key"), &key)?))
    }

    /// The configuration for a way to the server.
    fn configuration(&self, conninfo: &str) -> String {
        self.host.configuration(&format!(
            "nodes:\n  db01: {{conninfo: \"dbname=postgres {conninfo}\", address: \"db01:5432\"}}\n  \
             db02: {{conninfo: \"host=127.0.0.1 port={} user=x\", address: \"db02:5432\"}}\n",
            self.nowhere.number()
        ))
    }

    fn once(&self, conninfo: &str, environment: &[(&str, &Path)]) -> Result<Ended> {
        run_once_with(self.host.folder(), &self.configuration(conninfo), &["once"], environment)
    }

    /// The server is seen, or it is not and the message holds these words.
    fn assert_seen(&self, conninfo: &str, environment: &[(&str, &Path)], refused: Option<&str>) -> Result<()> {
        let ended = self.once(conninfo, environment)?;
        let expected = if refused.is_some() { 3 } else { 0 };
        assert_eq!(ended.code, Some(expected), "{conninfo}: {}", ended.text);
        assert!(ended.text.contains(refused.unwrap_or_default()), "{conninfo}: {}", ended.text);
        Ok(())
    }

    /// Our way to the server, by address.
    fn here(&self) -> String {
        format!("host=127.0.0.1 port={}", self.node.port())
    }
}

/// Gives a server its certificate and key.
fn certify(node: &Node, Certified { certificate, key }: &Certified) -> Result<()> {
    node.write("server.crt", certificate)?;
    node.write("server.key", key)?;
    Ok(fs::set_permissions(node.data().join("server.key"), fs::Permissions::from_mode(0o600))?)
}

#[test]
fn tls_is_used_as_sslmode_says() -> Result<()> {
    let site = Site::create("sslmode")?;
    let plain = Node::create(site.cluster.path(), "plain", None)?;
    plain.copy_from(&template()?)?;
    plain.configure(&["fsync = off".to_owned()])?;
    plain.start()?;
    let ours = site.file("ours.crt", site.authority.certificate())?.display().to_string();
    let theirs = site.file("theirs.crt", site.stranger.certificate())?.display().to_string();
    let here = site.here();
    let named = format!("host={NAME} hostaddr=127.0.0.1 port={}", site.node.port());
    let without = format!("host=127.0.0.1 port={} user=postgres", plain.port());
    for (conninfo, refused) in [
        (format!("{here} user=tls_only sslmode=disable"), Some("no encryption")),
        (format!("{here} user=tls_only sslmode=allow"), None),
        (format!("{here} user=plain_only sslmode=allow"), None),
        (format!("{here} user=tls_only sslmode=prefer"), None),
        (format!("{here} user=tls_only"), None),
        (format!("{here} user=plain_only"), None),
        (format!("{here} user=plain_only sslmode=require"), Some("SSL encryption")),
        (format!("{here} user=tls_only sslmode=require"), None),
        (format!("{without} sslmode=prefer"), None),
        (format!("{without} sslmode=require"), Some("does not support TLS")),
        // Where authorities are given they are asked, and prefer goes on without.
        (format!("{here} user=tls_only sslmode=require sslrootcert={ours}"), None),
        (format!("{here} user=tls_only sslmode=require sslrootcert={theirs}"), Some("UnknownIssuer")),
        (format!("{here} user=postgres sslmode=prefer sslrootcert={theirs}"), None),
        (format!("{here} user=tls_only sslmode=verify-ca sslrootcert={ours}"), None),
        (format!("{here} user=tls_only sslmode=verify-ca sslrootcert={theirs}"), Some("UnknownIssuer")),
        (format!("{here} user=tls_only sslmode=verify-full sslrootcert={ours}"), Some("not valid for name")),
        (format!("{named} user=tls_only sslmode=verify-full sslrootcert={ours}"), None),
        (format!("{named} user=tls_only sslmode=verify-full sslrootcert={theirs}"), Some("UnknownIssuer")),
        (format!("{named} user=tls_only sslmode=verify-full"), Some("needs sslrootcert")),
        (format!("{named} user=tls_only sslrootcert=system"), Some("UnknownIssuer")),
    ] {
        site.assert_seen(&conninfo, &[("HOME", site.cluster.path())], refused)?;
    }
    let system = [("HOME", site.cluster.path()), ("SSL_CERT_FILE", Path::new(&ours))];
    site.assert_seen(&format!("{named} user=tls_only sslrootcert=system"), &system, None)
}

/// A certificate as PostgreSQL's manual has people make it for a first try.
#[test]
fn a_server_may_vouch_for_itself() -> Result<()> {
    let site = Site::create("selfsigned")?;
    let own = Authority::self_signed(NAME)?;
    certify(&site.node, &own)?;
    site.node.stop_fast()?;
    site.node.start()?;
    let own = site.file("own.crt", &own.certificate)?.display().to_string();
    let other = site.file("other.crt", &Authority::self_signed(NAME)?.certificate)?.display().to_string();
    let (home, port) = ([("HOME", site.cluster.path())], site.node.port());
    let named = format!("host={NAME} hostaddr=127.0.0.1 port={port} user=tls_only sslmode=verify-full");
    site.assert_seen(&format!("{named} sslrootcert={own}"), &home, None)?;
    site.assert_seen(&format!("{named} sslrootcert={other}"), &home, Some("invalid peer certificate"))?;
    let here = format!("{} user=tls_only", site.here());
    site.assert_seen(&format!("{here} sslmode=verify-full sslrootcert={own}"), &home, Some("not valid for"))?;
    site.assert_seen(&format!("{here} sslmode=verify-ca sslrootcert={own}"), &home, None)
}

#[test]
fn our_own_certificate_is_shown() -> Result<()> {
    let site = Site::create("certificate")?;
    let here = format!("{} user=with_certificate sslmode=require", site.here());
    let (certificate, key) = site.identity(&site.authority, "with_certificate")?;
    let (foreign, foreign_key) = site.identity(&site.stranger, "stranger")?;
    let both =
        |certificate: &Path, key: &Path| format!("{here} sslcert={} sslkey={}", certificate.display(), key.display());
    let nobody = site.cluster.path().join("nobody");
    let home = [("HOME", nobody.as_path())];
    site.assert_seen(&both(&certificate, &key), &home, None)?;
    site.assert_seen(&here, &home, Some("certificate"))?;
    site.assert_seen(&(both(&certificate, &key) + " sslcertmode=disable"), &home, Some("certificate"))?;
    site.assert_seen(&both(&foreign, &foreign_key), &home, Some("unreachable"))?;
    site.assert_seen(&both(&certificate, &foreign_key), &home, Some("cannot use sslcert with sslkey"))?;
    site.assert_seen(&format!("{here} sslcert={}", certificate.display()), &home, Some("no key for it"))?;
    let locked = site.file("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n")?;
    site.assert_seen(&both(&certificate, &locked), &home, Some("is encrypted"))?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640))?;
    site.assert_seen(&both(&certificate, &key), &home, Some("run chmod 0600"))?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;

    // Where libpq looks when nothing is named, as for the authorities.
    let home = site.cluster.path().join("home");
    site.file("home/.postgresql/postgresql.crt", &fs::read_to_string(&certificate)?)?;
    site.file("home/.postgresql/postgresql.key", &fs::read_to_string(&key)?)?;
    site.file("home/.postgresql/root.crt", site.stranger.certificate())?;
    site.assert_seen(&here, &[("HOME", &home)], Some("UnknownIssuer"))?;
    site.file("home/.postgresql/root.crt", site.authority.certificate())?;
    site.assert_seen(&here, &[("HOME", &home)], None)
}

#[test]
fn a_service_is_looked_for_where_libpq_looks() -> Result<()> {
    let site = Site::create("service")?;
    let port = site.node.port();
    let file =
        site.file("services", &format!("[here]\nhost=127.0.0.1\nport={port}\nuser=with_password\npassword=right\n"))?;
    let bad = site.file("bad", "[here]\nhost=127.0.0.1\nhots=x\n")?;
    let home = site.cluster.path().join("home");
    let named = format!("service=here servicefile={}", file.display());
    site.assert_seen(&named, &[("HOME", &home)], None)?;
    site.assert_seen(&format!("{named} user=nobody"), &[("HOME", &home)], Some("nobody"))?;
    site.assert_seen("service=here", &[("HOME", &home), ("PGSERVICEFILE", &file)], None)?;
    site.assert_seen(
        "service=there",
        &[("HOME", &home), ("PGSERVICEFILE", &file)],
        Some("\"there\" is not defined in"),
    )?;
    site.assert_seen("service=here", &[("HOME", &home), ("PGSERVICEFILE", &bad)], Some("hots"))?;
    site.assert_seen("service=here", &[("HOME", &home), ("PGSYSCONFDIR", &home)], Some("there is no service file"))?;
    let text = fs::read_to_string(&file)?;
    site.file("system/pg_service.conf", &text)?;
    let system = site.cluster.path().join("system");
    site.assert_seen("service=here", &[("HOME", &home), ("PGSYSCONFDIR", &system)], None)?;
    site.file("home/.pg_service.conf", &text.replace("right", "wrong"))?;
    site.assert_seen("service=here", &[("HOME", &home), ("PGSYSCONFDIR", &system)], Some("28P01"))
}

#[test]
fn each_address_of_a_node_is_tried() -> Result<()> {
    let site = Site::create("addresses")?;
    let port = site.node.port();
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let (silent, nowhere) = (silent.local_addr()?.port(), Port::reserve()?);
    let none: &[(&str, &Path)] = &[];
    site.assert_seen(&format!("host=127.0.0.1,127.0.0.1 port={},{port} user=postgres", nowhere.number()), none, None)?;
    let hosts = format!("host=127.0.0.1,127.0.0.1,127.0.0.1 port={silent},{silent},{port}");
    site.assert_seen(&format!("{hosts} user=postgres"), none, None)?;
    site.assert_seen(&format!("hostaddr=127.0.0.9,127.0.0.1 port={port} user=postgres"), none, None)?;
    site.assert_seen(&format!("host=name.invalid,127.0.0.1 port={port} user=postgres"), none, None)?;
    let unseen = format!("host=name.invalid,127.0.0.1 port={silent} user=postgres");
    site.assert_seen(&unseen, none, Some("name.invalid: "))?;
    site.assert_seen(&unseen, none, Some(&format!("127.0.0.1:{silent}: no answer")))
}

/// Neither a name's address nor a password is remembered from one attempt to the next.
#[test]
fn names_and_passwords_are_looked_up_for_each_attempt() -> Result<()> {
    let site = Site::create("anew")?;
    let hosts = site.file("hosts", &format!("127.0.0.9 {NAME}\n"))?;
    let passfile = site.file("pgpass", &format!("{NAME}:*:*:*:wrong\n"))?;
    let way = format!("host={NAME} port={} user=with_password passfile={}", site.node.port(), passfile.display());
    let configuration = site.configuration(&way);
    let watcher = with_hosts_file(&hosts, || Watcher::start(site.host.folder(), &configuration))??;
    watcher.wait_said("db01: unreachable: cannot connect", 0)?;
    // The file is a mount in the watcher's place, so it is changed and not replaced. Of two addresses the first leads nowhere.
    let since = now();
    fs::write(&hosts, format!("127.0.0.9 {NAME}\n127.0.0.1 {NAME}\n"))?;
    watcher.wait_said("28P01", since)?;
    fs::write(&passfile, format!("{NAME}:*:*:*:right\n"))?;
    watcher.wait_said("active node is db01", since).map(drop)
}
