//! `sluice sql`: over TLS, with a bar, and stopped by Ctrl-C.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::access::Encrypted;
use crate::bed::{Bed, trial};
use crate::clients::ENDLESS;

/// What the bar's line begins with: it is drawn over the one before.
const ERASE: &str = "\r\u{1b}[2K";

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    type Test = fn(&Bed) -> Result<()>;
    let tests: [(&str, Test); 3] = [
        ("reaches_whom_it_is_sure_of", reaches_whom_it_is_sure_of),
        ("shows_a_certificate", shows_a_certificate),
        ("is_stopped_by_ctrl_c_over_tls", is_stopped_by_ctrl_c_over_tls),
    ];
    let mut trials: Vec<Trial> =
        tests.into_iter().map(|(name, test)| trial(bed, format!("sluice_sql::{name}"), test)).collect();
    for layout in Layout::ALL {
        let name = format!("sluice_sql::a_bar_leaves_no_trace::{}", layout.name());
        trials.push(trial(bed, name, move |bed| a_bar_leaves_no_trace(bed, layout)));
    }
    trials
}

/// `sluice sql` against a service that encrypts, from the folder of its certificates.
fn sluice_sql(bed: &Bed, service: &Encrypted, flags: &[&str], sql: &str) -> Command {
    let mut command = Command::new(bed.binary());
    command
        .args(["sql", "--port", &service.ports[0].to_string(), "--format", "csv", "-c", sql])
        .args(flags)
        .current_dir(&service.folder)
        .env("PGPASSWORD", "secret");
    for name in ["PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "SLUICE_PASSWORD"] {
        command.env_remove(name);
    }
    command
}

fn let_in(bed: &Bed, service: &Encrypted, flags: &[&str]) -> Result<()> {
    let output = sluice_sql(bed, service, flags, "SELECT current_user AS me").output()?;
    ensure!(output.stdout == b"me\nsluice\n", "with {flags:?} it says {}", told(&output));
    Ok(())
}

fn refused(bed: &Bed, service: &Encrypted, flags: &[&str], wanted: &str) -> Result<()> {
    let output = sluice_sql(bed, service, flags, "SELECT current_user AS me").output()?;
    ensure!(!output.status.success() && told(&output).contains(wanted), "with {flags:?} it says {}", told(&output));
    Ok(())
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn reaches_whom_it_is_sure_of(bed: &Bed) -> Result<()> {
    let service = Encrypted::start(bed, "sluice-sql", &[])?;
    let (ours, other) = (["--sslrootcert", "ca.pem"], ["--sslrootcert", "other.pem"]);
    let mode = |mode: &'static str, rest: &[&'static str]| [&["--sslmode", mode], rest].concat();
    // A connection is encrypted if it can be, and sure of the service where an authority is named.
    let_in(bed, &service, &[])?;
    let_in(bed, &service, &ours)?;
    let_in(bed, &service, &mode("require", &[]))?;
    let_in(bed, &service, &mode("verify-ca", &ours))?;
    let_in(bed, &service, &mode("verify-full", &ours))?;
    let_in(bed, &service, &[&mode("verify-full", &ours)[..], &["--host", "localhost"]].concat())?;
    refused(bed, &service, &mode("disable", &[]), "encrypted connections only")?;
    for strict in ["require", "verify-ca", "verify-full"] {
        refused(bed, &service, &mode(strict, &other), "UnknownIssuer")?;
    }
    refused(bed, &service, &mode("verify-full", &[]), "--sslrootcert")?;

    // Only the name is wrong: the authority is enough for verify-ca.
    let service = Encrypted::start_as(bed, "sluice-sql-elsewhere", "elsewhere", &[])?;
    refused(bed, &service, &mode("verify-full", &ours), "not valid for name")?;
    let_in(bed, &service, &mode("verify-ca", &ours))?;
    refused(bed, &service, &mode("verify-ca", &other), "UnknownIssuer")
}

fn shows_a_certificate(bed: &Bed) -> Result<()> {
    let service = Encrypted::start(bed, "sluice-sql-mutual", &["--ssl-ca-file", "ca.pem"])?;
    let ours = ["--sslrootcert", "ca.pem"];
    let_in(bed, &service, &[&ours[..], &["--sslcert", "client.pem", "--sslkey", "client.key"]].concat())?;
    refused(bed, &service, &ours, "cannot connect")
}

fn is_stopped_by_ctrl_c_over_tls(bed: &Bed) -> Result<()> {
    let service = Encrypted::start(bed, "sluice-sql-cancel", &[])?;
    let flags = ["--sslrootcert", "ca.pem"];
    let child = sluice_sql(bed, &service, &flags, ENDLESS).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let running =
        "SELECT count(*) AS n FROM system.queries WHERE state = 'running' AND sql LIKE 'SELECT count(*) FROM gen%'";
    let wait_until = |wanted: &[u8]| -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while sluice_sql(bed, &service, &flags, running).output()?.stdout != wanted {
            ensure!(Instant::now() < deadline, "{} queries run", String::from_utf8_lossy(wanted));
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    wait_until(b"n\n1\n")?;
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    ensure!(sent.success(), "Ctrl-C could not be sent");
    let output = child.wait_with_output()?;
    let text = told(&output);
    ensure!(!output.status.success() && text.contains("canceling statement due to user request"), "it says {text}");
    wait_until(b"n\n0\n")
}

/// `sluice sql` in a terminal, which is that of `script` of the package bsdutils.
struct Terminal {
    script: Child,
    text: String,
}

impl Terminal {
    fn open(bed: &Bed, service: &Service, folder: &Path, sql: &str) -> Result<Self> {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let command = format!(
            "{} sql --port {} --format csv -c {}",
            quoted(&bed.binary().display().to_string()),
            service.pg_port,
            quoted(sql)
        );
        let script = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .current_dir(folder)
            .env_remove("PGSSLMODE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("running script, of the package bsdutils")?;
        Ok(Self { script, text: String::new() })
    }

    /// Reads until the text is as it should be, or until its end.
    fn read_until(&mut self, is_enough: impl Fn(&str) -> bool) -> Result<&str> {
        let output = self.script.stdout.as_mut().context("script has no output")?;
        let mut buffer = [0; 4096];
        while !is_enough(&self.text) {
            match output.read(&mut buffer)? {
                0 => break,
                count => self.text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            }
        }
        Ok(&self.text)
    }

    fn press_ctrl_c(&mut self) -> Result<()> {
        Ok(self.script.stdin.as_mut().context("script has no input")?.write_all(b"\x03")?)
    }

    /// All that the terminal got.
    fn finish(mut self) -> Result<String> {
        self.read_until(|_| false)?;
        self.script.wait()?;
        Ok(self.text)
    }
}

/// What is seen of that in the end: lines without what was erased in them.
fn seen(text: &str) -> String {
    let lines = text.split("\r\n").map(|line| line.rsplit(ERASE).next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn a_bar_leaves_no_trace(bed: &Bed, layout: Layout) -> Result<()> {
    let service = bed.own_service(layout, &[])?;
    let folder = bed.scratch("bar")?;
    let text = Terminal::open(bed, &service, &folder, "SELECT pg_sleep(3) = '' AS slept")?.finish()?;
    ensure!(text.contains("runs, "), "there is no line while a statement runs: {text:?}");
    ensure!(seen(&text) == "slept\nt\n", "what stays is {:?}", seen(&text));
    // On a busy machine the first one may not be fast.
    let mut fast = (0..20).map(|_| Terminal::open(bed, &service, &folder, "SELECT 1 AS one")?.finish());
    ensure!(fast.any(|text| text.is_ok_and(|text| text == "one\r\n1\r\n")), "a fast statement shows a line");

    let lines = bed.tpch("0.1")?.join("lineitem.parquet").display().to_string();
    let slow = format!("SELECT count(*) FROM '{lines}' a JOIN '{lines}' b ON a.l_linenumber = b.l_linenumber");
    let in_stages = format!("SET sluice.single_task_max_bytes = 0; SET statement_timeout = '2min'; {slow}");
    let mut terminal = Terminal::open(bed, &service, &folder, &in_stages)?;
    let bar = last_line(terminal.read_until(|text| last_line(text).contains(" tasks, "))?);
    ensure!(bar.contains(" stages, ") && bar.contains("; stage ") && bar.contains(" rows"), "the bar is {bar:?}");
    terminal.press_ctrl_c()?;
    let stays = seen(&terminal.finish()?);
    ensure!(!stays.contains("stages") && stays.contains("due to user request"), "what stays is {stays:?}");
    Ok(())
}

/// The last that was drawn as a whole over the line before.
fn last_line(text: &str) -> &str {
    text.rsplit(ERASE).nth(1).unwrap_or_default()
}
