//! Who may do what: passwords, roles and grants, files, TLS, and what strangers try.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Process, Service, create_superuser, free_ports};
use sluice_sql_tests::{python, runner};
use tokio_postgres::Client;

use crate::bed::{Bed, trial};

/// The password of user `sluice`, who may do everything.
const PASSWORD: &str = "a secret: ü'$\"";
const ANN: &str = "ann-secret";
const START_TIMEOUT: Duration = Duration::from_secs(120);

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for layout in Layout::ALL {
        let name = |what: &str| format!("access::{what}::{}", layout.name());
        trials.push(trial(bed, name("roles_may_what_was_granted"), move |bed| roles_may_what_was_granted(bed, layout)));
    }
    type Test = fn(&Bed) -> Result<()>;
    let tests: [(&str, Test); 4] = [
        ("passwords_are_asked_for", passwords_are_asked_for),
        ("files_stay_within_their_roots", files_stay_within_their_roots),
        ("tls_is_for_everybody", tls_is_for_everybody),
        ("an_open_address_is_refused", an_open_address_is_refused),
    ];
    trials.extend(tests.into_iter().map(|(name, test)| trial(bed, format!("access::{name}"), test)));
    trials
}

/// The SQLSTATE that a statement or a login ends with; `00000` if it is no error.
pub fn state_of<T>(result: std::result::Result<T, tokio_postgres::Error>) -> Result<String> {
    match result {
        Ok(_) => Ok("00000".to_owned()),
        Err(error) => match error.code() {
            Some(code) => Ok(code.code().to_owned()),
            None => Err(error).context("no error of the server"),
        },
    }
}

pub async fn run(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let messages = client.simple_query(sql).await.map_err(runner::SqlError).with_context(|| sql.to_owned())?;
    Ok(runner::text_rows(messages))
}

pub async fn expect_states(client: &Client, wanted: &str, statements: &[&str]) -> Result<()> {
    for sql in statements {
        let state = state_of(client.simple_query(sql).await).with_context(|| (*sql).to_owned())?;
        ensure!(state == wanted, "{sql} gives {state} where {wanted} was expected");
    }
    Ok(())
}

fn roles_may_what_was_granted(bed: &Bed, layout: Layout) -> Result<()> {
    let mut service = bed.own_service_with_password(layout, PASSWORD)?;
    let strange = "Robert'); DROP ROLE ann;--";
    bed.block_on(async {
        let root = service.connect().await?;
        let quoted = strange.replace('"', "\"\"");
        run(
            &root,
            &format!(
                "CREATE ROLE ann LOGIN PASSWORD '{ANN}'; CREATE ROLE analysts; GRANT analysts TO ann; \
                 CREATE USER \"{quoted}\" PASSWORD 'x'; \
                 CREATE VIEW shown AS SELECT value AS n FROM generate_series(1, 3) AS t(value); \
                 CREATE VIEW hidden AS SELECT 'secret' AS s; CREATE VIEW half AS SELECT n FROM shown WHERE n > 1"
            ),
        )
        .await?;
        let ann = service.log_in("ann", Some(ANN)).await?;
        // Nothing was granted yet; what needs no grant is there.
        expect_states(&ann, "42501", &["SELECT * FROM shown"]).await?;
        let free =
            ["SELECT 1", "SELECT * FROM generate_series(1, 3)", "SELECT * FROM pg_catalog.pg_roles", "SHOW TABLES"];
        expect_states(&ann, "00000", &free).await?;

        // A view that was granted is read with the rights of its maker, through a role that ann is a member of.
        run(&root, "GRANT SELECT ON half TO analysts").await?;
        ensure!(run(&ann, "SELECT sum(n) FROM half").await? == [[Some("5".to_owned())]], "the view is read");
        let prepared = ann.prepare("SELECT n FROM half").await?;
        expect_states(
            &ann,
            "42501",
            &[
                "SELECT * FROM shown",
                "SELECT * FROM half, hidden",
                "SELECT * FROM half WHERE EXISTS (SELECT 1 FROM hidden)",
                "SELECT (SELECT s FROM hidden)",
                "SELECT n FROM half UNION ALL SELECT 1 FROM sluice.public.hidden",
                "WITH half AS (SELECT * FROM hidden) SELECT * FROM half",
                "SELECT * FROM hidden, (WITH hidden AS (SELECT 1) SELECT * FROM hidden) AS x",
                "EXPLAIN SELECT * FROM hidden",
                "EXPLAIN ANALYZE SELECT * FROM hidden",
                "PREPARE p AS SELECT * FROM hidden",
                "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM hidden",
                "COPY hidden TO STDOUT",
                "COPY (SELECT * FROM hidden) TO STDOUT",
                "COMPARE half WITH hidden ON (n)",
                "COMPARE half WITH (SELECT * FROM hidden) ON (n)",
                "ANALYZE hidden",
                "CREATE VIEW mine AS SELECT 1 AS x",
                "CREATE OR REPLACE VIEW half AS SELECT * FROM hidden",
                "DROP VIEW half",
                "CREATE SCHEMA mine",
                "INSERT INTO half VALUES (1)",
                "UPDATE half SET n = 1",
                "DELETE FROM half",
                "TRUNCATE half",
                "SELECT * FROM '/etc/passwd'",
                "COPY half TO '/tmp/stolen.parquet'",
                "COPY (SELECT 1 AS x) TO '/tmp/stolen/' (FORMAT parquet)",
                "CREATE EXTERNAL TABLE mine STORED AS CSV LOCATION '/etc/passwd'",
                "CREATE CATALOG mine USING cassandra WITH (contact_points = '127.0.0.1')",
                "DROP CATALOG nothing",
                "CREATE QUEUE mine",
                "CREATE ROLE mine SUPERUSER",
                "ALTER ROLE ann SUPERUSER",
                "ALTER ROLE ann PASSWORD 'x' SUPERUSER",
                "ALTER ROLE sluice PASSWORD 'x'",
                "GRANT SELECT ON hidden TO ann",
                "GRANT pg_read_server_files TO ann",
                "DROP ROLE sluice",
                "SELECT sql FROM system.queries",
                "CREATE FUNCTION f() RETURNS int RETURN 1",
            ],
        )
        .await?;
        let error = ann.simple_query("SELECT * FROM hidden").await.err().context("hidden is read")?;
        let hint = error.as_db_error().and_then(|error| error.hint()).unwrap_or_default().to_owned();
        ensure!(hint.contains("GRANT SELECT"), "the hint is {hint:?}");

        // Which rows a condition finds tells what is in them.
        run(&root, "GRANT DELETE ON hidden TO ann").await?;
        expect_states(&ann, "42501", &["DELETE FROM hidden WHERE s = 'secret'"]).await?;
        let all = state_of(ann.simple_query("DELETE FROM hidden").await)?;
        ensure!(all != "42501" && all != "00000", "to delete from a view ends with {all}");
        run(&root, "REVOKE DELETE ON hidden FROM ann").await?;

        // A schema contains its tables. What is revoked is gone at once, for statements that are prepared too.
        run(&root, "GRANT SELECT ON SCHEMA public TO PUBLIC").await?;
        expect_states(&ann, "00000", &["SELECT * FROM hidden", "EXPLAIN ANALYZE SELECT * FROM hidden"]).await?;
        run(&root, "REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE SELECT ON half FROM analysts").await?;
        expect_states(&ann, "42501", &["SELECT * FROM hidden", "SELECT * FROM half"]).await?;
        ensure!(state_of(ann.query(&prepared, &[]).await)? == "42501", "a prepared statement outlives its grant");
        let seen = run(&root, "SELECT count(*) FROM system.roles WHERE role = 'analysts'").await?;
        ensure!(seen == [[Some("1".to_owned())]], "system.roles has {seen:?}");
        run(&root, "GRANT CREATE, SELECT ON SCHEMA public TO ann; GRANT pg_monitor TO ann").await?;
        let seen = run(&ann, "CREATE VIEW mine AS SELECT 1 AS x; SELECT x FROM mine; DROP VIEW mine").await?;
        ensure!(seen == [[Some("1".to_owned())]], "what ann created has {seen:?}");
        run(&ann, "SELECT count(*) FROM system.queries").await?;

        // Who may write a table of files writes files.
        let location = bed.scratch("written")?.display().to_string();
        run(&root, &format!("CREATE EXTERNAL TABLE written (n INT) STORED AS PARQUET LOCATION '{location}/'")).await?;
        run(&root, "GRANT INSERT ON written TO ann").await?;
        expect_states(&ann, "42501", &["INSERT INTO written VALUES (1)"]).await?;
        run(&root, "GRANT pg_write_server_files TO ann").await?;
        expect_states(&ann, "00000", &["INSERT INTO written VALUES (1)"]).await?;
        run(&root, "REVOKE pg_write_server_files FROM ann; DROP TABLE written").await?;
        anyhow::Ok(())
    })?;

    // Roles are kept, and their passwords are nowhere.
    bed.block_on(service.restart())?;
    bed.block_on(async {
        let seen = run(&service.connect().await?, "SELECT sql FROM system.queries").await?;
        ensure!(!format!("{seen:?}").contains(ANN), "a password is in system.queries: {seen:?}");
        let ann = service.log_in("ann", Some(ANN)).await?;
        expect_states(&ann, "00000", &["SELECT * FROM hidden", "ALTER ROLE ann PASSWORD 'another one'"]).await?;
        ensure!(state_of(service.log_in("ann", Some(ANN)).await)? == "28P01", "the old password still lets in");
        service.log_in("ann", Some("another one")).await?;
        service.log_in(strange, Some("x")).await?;
        let root = service.connect().await?;
        run(&root, "ALTER ROLE ann CONNECTION LIMIT 2").await?;
        let second = log_in_when_there_is_room(&service, "ann", "another one").await?;
        ensure!(state_of(service.log_in("ann", Some("another one")).await)? == "53300", "a third session is opened");
        drop(second);
        run(&root, "ALTER ROLE ann CONNECTION LIMIT -1").await?;
        service.log_in("ann", Some("another one")).await?;
        run(&root, "ALTER ROLE ann NOLOGIN").await?;
        ensure!(state_of(service.log_in("ann", Some("another one")).await)? == "28000", "NOLOGIN lets in");
        expect_states(&root, "55006", &["ALTER ROLE sluice NOSUPERUSER", "DROP ROLE sluice"]).await?;
        expect_states(&root, "42704", &["GRANT nobody TO ann", "DROP ROLE nobody", "ALTER ROLE nobody LOGIN"]).await?;
        expect_states(&root, "42939", &["CREATE ROLE pg_x", "CREATE ROLE public"]).await?;
        expect_states(&root, "0LP01", &["GRANT ann TO analysts"]).await?;
        expect_states(&root, "00000", &["DROP ROLE IF EXISTS ann, nobody", "CREATE ROLE IF NOT EXISTS analysts"]).await
    })?;
    let kept = std::fs::read_to_string(service.data_dir().join("data/roles.json"))?;
    ensure!(kept.contains("SCRAM-SHA-256$4096:") && !kept.contains(ANN), "roles.json has {kept}");
    ensure!(!service.all_output().contains(ANN), "a password is in the log");
    Ok(())
}

/// Sessions whose clients have left end a moment later.
async fn log_in_when_there_is_room(service: &Service, user: &str, password: &str) -> Result<Client> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match service.log_in(user, Some(password)).await {
            Err(error) if error.code().is_some_and(|code| code.code() == "53300") && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return Ok(result?),
        }
    }
}

/// What the web server answers to a GET as this user.
fn get(service: &Service, path: &str, basic: Option<&str>) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", service.http_port))?;
    let header = basic.map(|basic| format!("Authorization: Basic {basic}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn passwords_are_asked_for(bed: &Bed) -> Result<()> {
    let service = bed.own_service_with_password(Layout::Embedded, "secret")?;
    bed.block_on(async {
        run(
            &service.connect().await?,
            "CREATE USER ann PASSWORD 'ann-secret'; CREATE USER mallory PASSWORD 'mallory-secret'",
        )
        .await?;
        // Wrong passwords and names without a role are told alike.
        for (user, password) in [("sluice", "wrong"), ("sluice", ""), ("eve", "secret"), ("public", "x")] {
            let error = service.log_in(user, Some(password)).await.err().context("is let in")?;
            let error = error.as_db_error().context("no error of the server")?;
            let wanted = format!("password authentication failed for user \"{user}\"");
            ensure!((error.code().code(), error.message()) == ("28P01", wanted.as_str()), "{user}: {error}");
        }
        ensure!(service.log_in("sluice", None).await.is_err(), "no password lets in");
        // Who guesses has to wait, and nobody else.
        let mut last = String::new();
        for _ in 0..12 {
            let error = service.log_in("ann", Some("wrong")).await.err().context("is let in")?;
            last = error.as_db_error().context("no error of the server")?.message().to_owned();
        }
        ensure!(last.contains("too many failed logins"), "the twelfth guess was told {last:?}");
        ensure!(state_of(service.log_in("ann", Some("ann-secret")).await)? == "28000", "who guesses need not wait");
        service.check_serving().await
    })?;
    before_the_login(&service)?;
    python::run(bed.python()?, "clients/access_client.py", &["flight", &service.flight_port.to_string(), "secret"])?;
    let answers = [
        ("/", None, "401"),
        ("/api/queries", Some("c2x1aWNlOndyb25n"), "401"),
        ("/api/queries", Some("c2x1aWNlOnNlY3JldA=="), "200 OK"),
        ("/health", None, "200 OK"),
        ("/ready", None, "200 OK"),
    ];
    for (path, basic, wanted) in answers {
        let answer = get(&service, path, basic)?;
        let head = answer.lines().next().unwrap_or_default();
        ensure!(head.contains(wanted), "GET {path} as {basic:?} gives {head:?}");
    }
    let sql = |password: &str| {
        let arguments = ["sql", "-c", "SELECT 1 AS one", "--port", &service.pg_port.to_string()].map(str::to_owned);
        Command::new(bed.binary()).args(arguments).env("SLUICE_PASSWORD", password).output()
    };
    ensure!(sql("secret")?.status.success(), "sluice sql is not let in");
    ensure!(!sql("wrong")?.status.success(), "sluice sql is let in");
    Ok(())
}

/// What is sent before the login has no effect but the end of the connection.
fn before_the_login(service: &Service) -> Result<()> {
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", service.pg_port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(stream)
    };
    let startup = b"\0\0\0\x14\0\x03\0\0user\0sluice\0\0";
    let query = b"Q\0\0\0\x0dSELECT 1\0";
    // A start-up packet that says how long it is, in its first four bytes.
    let mut packet = startup.to_vec();
    packet[3] = startup.len() as u8;
    let attacks: [(&str, Vec<u8>); 4] = [
        ("a statement instead of a password", [packet.as_slice(), query].concat()),
        ("a huge password", [packet.as_slice(), b"p\x3f\xff\xff\xff"].concat()),
        ("an unknown mechanism", [packet.as_slice(), b"p\0\0\0\x0fPLAIN\0\0\0\0\x01x"].concat()),
        ("a proof without an exchange", [packet.as_slice(), b"p\0\0\0\x08abcd"].concat()),
    ];
    for (what, bytes) in attacks {
        let mut stream = connect()?;
        stream.write_all(&bytes)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        // The connection may end with a reset, because the server does not read what it did not ask for.
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        ensure!(!text.contains("SELECT 1") && !answer.contains(&b'Z'), "{what} is answered with {text:?}");
    }
    Ok(())
}

fn files_stay_within_their_roots(bed: &Bed) -> Result<()> {
    let base = bed.scratch("file-roots")?;
    let (inside, outside) = (base.join("in"), base.join("out"));
    for folder in [&inside, &outside] {
        std::fs::create_dir_all(folder)?;
    }
    std::os::unix::fs::symlink(&outside, inside.join("link"))?;
    let root = inside.display().to_string();
    let audit = base.join("audit.jsonl");
    let flags = ["--file-root", &root, "--audit-log", &audit.display().to_string(), "--audit-redact"];
    let service = bed.own_service(Layout::Embedded, &flags)?;
    bed.block_on(async {
        let client = service.connect().await?;
        let at = |sql: &str| sql.replace("IN", &root).replace("OUT", &outside.display().to_string());
        let allowed = [
            "COPY (SELECT 1 AS x) TO 'IN/a.parquet' STORED AS PARQUET",
            "SELECT * FROM 'IN/a.parquet'",
            "COPY (SELECT 1 AS x) TO 'IN/b/' (FORMAT parquet)",
            "CREATE EXTERNAL TABLE a STORED AS PARQUET LOCATION 'IN/a.parquet'",
            "SELECT * FROM a",
        ];
        for sql in allowed {
            run(&client, &at(sql)).await?;
        }
        std::fs::copy(inside.join("a.parquet"), outside.join("a.parquet"))?;
        let refused = [
            "COPY (SELECT 1 AS x) TO 'OUT/new.parquet' STORED AS PARQUET",
            "COPY (SELECT 1 AS x) TO 'IN/../out/new.parquet' STORED AS PARQUET",
            "COPY (SELECT 1 AS x) TO 'IN/link/new/' (FORMAT parquet)",
            "COPY (SELECT 1 AS x) TO 'relative.parquet' STORED AS PARQUET",
            "SELECT * FROM 'OUT/a.parquet'",
            "SELECT * FROM 'IN/link/a.parquet'",
            "SELECT * FROM 'IN/../out/a.parquet'",
            "SELECT * FROM 'IN/%2e%2e/out/a.parquet'",
            "SELECT * FROM 'file://OUT/a.parquet'",
            "SELECT * FROM 'http://127.0.0.1:1/a.parquet'",
            "CREATE EXTERNAL TABLE b STORED AS PARQUET LOCATION 'OUT/a.parquet'",
            "CREATE EXTERNAL TABLE b STORED AS PARQUET LOCATION 'IN/link/'",
            "COMPARE 'IN/a.parquet' WITH 'OUT/a.parquet' ON (x)",
            "CREATE VIEW b AS SELECT * FROM 'OUT/a.parquet'",
        ];
        let refused: Vec<String> = refused.iter().map(|sql| at(sql)).collect();
        expect_states(&client, "42501", &refused.iter().map(String::as_str).collect::<Vec<_>>()).await
    })?;
    let log = std::fs::read_to_string(&audit)?;
    for wanted in [
        "\"event\":\"session\",\"user\":\"sluice\"",
        "\"statement\":\"COPY (SELECT ? AS x) TO ? STORED AS PARQUET\"",
        "\"state\":\"00000\",\"rows\":1",
        "\"event\":\"refused\"",
        "\"state\":\"42501\"",
    ] {
        ensure!(log.contains(wanted), "{wanted} is not in the audit log:\n{log}");
    }
    ensure!(!log.contains("relative.parquet"), "a text is in the audit log:\n{log}");
    ensure!(!outside.join("new.parquet").exists() && !outside.join("new").exists(), "something was written outside");
    Ok(())
}

/// Certificates for 127.0.0.1, for a client and for another host, of an authority of their own; and another authority.
pub fn make_certificates(folder: &Path) -> Result<()> {
    let script = r#"
        set -e
        for authority in ca other; do
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$authority" -keyout $authority.key -out $authority.pem
        done
        for name in server client elsewhere; do
            openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" -keyout $name.key -out $name.csr
            [ $name = elsewhere ] && names=DNS:elsewhere || names=IP:127.0.0.1,DNS:localhost
            printf 'subjectAltName=%s\n' $names > $name.ext
            openssl x509 -req -in $name.csr -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile $name.ext -out $name.pem
        done
        chmod 600 *.key
    "#;
    let output = Command::new("bash").args(["-c", script]).current_dir(folder).output().context("running openssl")?;
    ensure!(output.status.success(), "openssl failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A service that encrypts, and the folder of its certificates. It asks for passwords; that of `sluice` is `secret`.
pub struct Encrypted {
    process: Process,
    /// Its ports: for PostgreSQL, Flight SQL and HTTP.
    pub ports: Vec<u16>,
    /// Where its certificates are.
    pub folder: PathBuf,
}

impl Encrypted {
    /// Starts one under a certificate that is good for it.
    pub fn start(bed: &Bed, name: &str, more: &[&str]) -> Result<Self> {
        Self::start_as(bed, name, "server", more)
    }

    /// Starts one under this of its folder's certificates.
    pub fn start_as(bed: &Bed, name: &str, certificate: &str, more: &[&str]) -> Result<Self> {
        let folder = bed.scratch(name)?;
        make_certificates(&folder)?;
        let data_dir = folder.join("data");
        create_superuser(bed.binary(), &data_dir, "sluice", "secret")?;
        let ports = free_ports(3)?;
        let mut command = Command::new(bed.binary());
        command.args(["serve", "--executors", "1", "--auth", "password", "--data-dir"]).arg(&data_dir);
        for (flag, port) in ["--pg-port", "--flight-port", "--http-port"].iter().zip(&ports) {
            command.arg(flag).arg(port.to_string());
        }
        let (cert, key) = (format!("{certificate}.pem"), format!("{certificate}.key"));
        command.args(["--ssl-cert-file", &cert, "--ssl-key-file", &key]).args(more);
        command.current_dir(&folder).env_remove("SLUICE_CONFIG");
        let process = Process::start(name, command, folder.join("log"))?;
        let mut service = Self { process, ports, folder };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", service.ports[0])).is_err()
            || !service.process.output().contains("is ready")
        {
            service.process.check_alive()?;
            ensure!(Instant::now() < deadline, "the service does not start: {}", service.process.log_end());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(service)
    }

    /// psql with these parameters of its connection.
    fn psql(&self, parameters: &str, sql: &str) -> Result<Output> {
        let connection = format!("host=127.0.0.1 port={} user=sluice dbname=sluice {parameters}", self.ports[0]);
        Command::new("psql")
            .args(["-X", "-At", "-w", "-c", sql, &connection])
            .env("PGPASSWORD", "secret")
            .current_dir(&self.folder)
            .output()
            .context("running psql")
    }

    /// What it has written.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Has it read its files anew, as an administrator does.
    pub fn hang_up(&self) -> Result<()> {
        let sent =
            Command::new("kill").arg("-HUP").arg(self.process.id().to_string()).status().context("running kill")?;
        ensure!(sent.success(), "the service could not be signalled");
        Ok(())
    }

    /// Fails unless psql with these parameters gets an answer.
    pub fn let_in(&self, parameters: &str) -> Result<()> {
        let output = self.psql(parameters, "SELECT current_user")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.stdout == b"sluice\n", "psql with {parameters} is told {errors}");
        Ok(())
    }

    fn refused(&self, parameters: &str, wanted: &str) -> Result<()> {
        let output = self.psql(parameters, "SELECT current_user")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && errors.contains(wanted), "psql with {parameters} is told {errors}");
        Ok(())
    }
}

fn tls_is_for_everybody(bed: &Bed) -> Result<()> {
    let service = Encrypted::start(bed, "tls", &[])?;
    // A proof that is bound to the certificate is worth nothing to whoever stands between.
    service.let_in("sslmode=verify-full sslrootcert=ca.pem channel_binding=require")?;
    service.let_in("sslmode=require")?;
    service.refused("sslmode=disable", "encrypted connections only")?;
    service.refused("sslmode=verify-full sslrootcert=other.pem", "certificate verify failed")?;
    let rows = service.psql("sslmode=require", "SELECT repeat('x', 1000) FROM generate_series(1, 20000)")?;
    ensure!(rows.stdout.len() == 20_000 * 1_001, "{} bytes of a large result", rows.stdout.len());
    injected_statements_are_dropped(service.ports[0])?;
    let arguments =
        ["tls", &service.ports[1].to_string(), "secret", &service.folder.join("ca.pem").display().to_string()]
            .map(str::to_owned);
    python::run(bed.python()?, "clients/access_client.py", &arguments.each_ref().map(String::as_str))?;
    let page = |scheme: &str| {
        let url = format!("{scheme}://127.0.0.1:{}/health", service.ports[2]);
        let arguments = ["http", url.as_str(), &service.folder.join("ca.pem").display().to_string()].map(str::to_owned);
        python::run(bed.python()?, "clients/access_client.py", &arguments.each_ref().map(String::as_str))
    };
    page("https")?;
    ensure!(page("http").is_err(), "the page is served in clear");
    // Strangers who do not finish their handshakes hold up nobody.
    let half_open: Vec<TcpStream> = service
        .ports
        .iter()
        .flat_map(|port| (0..50).map(move |_| TcpStream::connect(("127.0.0.1", *port))))
        .collect::<std::io::Result<_>>()?;
    service.let_in("sslmode=require")?;
    page("https")?;
    drop(half_open);

    let service = Encrypted::start(bed, "mutual-tls", &["--ssl-ca-file", "ca.pem"])?;
    service.let_in("sslmode=verify-full sslrootcert=ca.pem sslcert=client.pem sslkey=client.key")?;
    let output = service.psql("sslmode=require", "SELECT 1")?;
    ensure!(!output.status.success(), "a client without a certificate is let in");
    Ok(())
}

/// Statements in clear behind the request for encryption would be taken for what was said under it.
fn injected_statements_are_dropped(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2fQ\0\0\0\x0dSELECT 1\0")?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    ensure!(answer.is_empty() || answer == b"S", "what was injected is answered with {answer:?}");
    Ok(())
}

fn an_open_address_is_refused(bed: &Bed) -> Result<()> {
    let folder = bed.scratch("open-address")?;
    make_certificates(&folder)?;
    let told = |role: &str, flags: &[&str]| -> Result<String> {
        let mut command = Command::new(bed.binary());
        command.arg(role).args(["--bind", "0.0.0.0", "--data-dir"]).arg(folder.join("data")).args(flags);
        let output = command.current_dir(&folder).env_remove("SLUICE_CONFIG").output()?;
        if output.status.success() {
            bail!("sluice {role} {flags:?} does listen");
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let tls = ["--ssl-cert-file", "server.pem", "--ssl-key-file", "server.key"];
    for (role, flags, wanted) in [
        ("serve", &["--auth", "trust"][..], "--auth password"),
        ("serve", &[], "ssl_cert_file"),
        ("serve", &["--ssl-cert-file", "server.pem"], "ssl_key_file"),
        ("serve", &tls, "create-superuser"),
        ("serve", &["--auth", "password", "--ssl-cert-file", "ca.srl", "--ssl-key-file", "server.key"], "ca.srl"),
        ("coordinator", &tls, "--cluster-secret-file"),
        ("executor", &[], "--cluster-secret-file"),
        ("executor", &["--cluster-secret-file", "server.pem"], "chmod 600"),
    ] {
        let text = told(role, flags)?;
        ensure!(text.contains(wanted), "sluice {role} {flags:?} says {text:?}, without {wanted:?}");
    }
    Ok(())
}
