//! The web page: what its API tells of a query during and after it, statements over HTTP, and who is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sluice_sql_tests::runner::SqlError;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};

const PATIENCE: Duration = Duration::from_secs(60);
/// The header without which nothing is done.
const OWN: (&str, &str) = ("X-Sluice-Request", "1");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 100000000000) AS t(n) WHERE n % 3 = 4";

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    type Test = fn(&Bed, Layout) -> Result<()>;
    let tests: [(&str, Test); 3] = [
        ("stages_are_told_during_and_after", stages_are_told_during_and_after),
        ("statements_run_over_http", statements_run_over_http),
        ("a_queued_query_tells_why", a_queued_query_tells_why),
    ];
    let mut trials = Vec::new();
    for layout in Layout::ALL {
        for (name, test) in tests {
            trials.push(trial(bed, format!("page::{name}::{}", layout.name()), move |bed| test(bed, layout)));
        }
    }
    type Single = fn(&Bed) -> Result<()>;
    let single: [(&str, Single); 4] = [
        ("pages_of_strangers_are_refused", pages_of_strangers_are_refused),
        ("hostile_text_stays_text", hostile_text_stays_text),
        ("roles_see_and_stop_their_own", roles_see_and_stop_their_own),
        ("a_browser_draws_it", a_browser_draws_it),
    ];
    trials.extend(single.into_iter().map(|(name, test)| trial(bed, format!("page::{name}"), test)));
    trials
}

/// What the web server answered.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("status {}, no JSON: {}", self.status, self.body))
    }

    /// What an answer of one object a line tells of statements that have ended. That one runs is told of those only that
    /// are not done at once.
    fn lines(&self) -> Result<Vec<Value>> {
        let objects = self.body.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
        let objects = objects.with_context(|| format!("status {}: {}", self.status, self.body))?;
        Ok(objects.into_iter().filter(|line| line["running"].is_null()).collect())
    }
}

/// Sends a request by HTTP/1.0, whose answers end with the connection.
fn send(service: &Service, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    let mut stream = begin(service, method, path, headers, body)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8(text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("an answer without a status")?;
    Ok(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

fn begin(service: &Service, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", service.http_port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: 127.0.0.1:{}\r\n", service.http_port);
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes())?;
    Ok(stream)
}

fn get(service: &Service, path: &str) -> Result<Value> {
    let answer = send(service, "GET", path, &[], "")?;
    ensure!(answer.status == 200, "GET {path}: {} {}", answer.status, answer.body);
    answer.json()
}

/// Runs a text as the page does.
fn run_sql(service: &Service, body: &Value) -> Result<Vec<Value>> {
    send(service, "POST", "/api/sql", &[OWN, JSON], &body.to_string())?.lines()
}

/// The query with that text, newest first, once it is as wanted.
fn query_when(service: &Service, sql: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = get(service, "/api/queries")?;
        let found = all.as_array().into_iter().flatten().find(|query| query["sql"] == sql);
        match found.filter(|query| wanted(query)) {
            Some(query) => return Ok(query.clone()),
            None if Instant::now() > deadline => bail!("the query is not as wanted: {found:?}"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn stages_are_told_during_and_after(bed: &Bed, layout: Layout) -> Result<()> {
    // Two stages and more, and work enough to be seen running.
    let staged = format!(
        "SELECT l_suppkey % 7 AS k, count(DISTINCT l_comment) AS many FROM '{}' GROUP BY k ORDER BY k",
        bed.tpch("0.1")?.join("lineitem.parquet").display()
    );
    let service = bed.own_service(layout, &[])?;
    let client = bed.block_on(service.connect())?;
    bed.block_on(client.simple_query("SET sluice.single_task_max_bytes = 0; SET sluice.target_partitions = 3"))
        .map_err(SqlError)?;
    let during = std::thread::scope(|scope| -> Result<Value> {
        let running = scope.spawn(|| bed.block_on(client.simple_query(&staged)).map_err(SqlError));
        let during = query_when(&service, &staged, |query| {
            query["state"] == "running" && query["progress"].as_array().is_some_and(|stages| !stages.is_empty())
        });
        running.join().map_err(|_| anyhow::anyhow!("the query panicked"))??;
        during
    })?;
    ensure!(during["placement"] == "stages" && during["user"] == "sluice", "while it runs: {during}");

    let id = during["id"].as_str().context("a query without an id")?;
    let after = get(&service, &format!("/api/queries/{id}"))?;
    ensure!(after["state"] == "finished" && after["rows"] == 7 && after["may_cancel"] == true, "after it ran: {after}");
    let stages = after["stages"].as_array().context("no stages")?;
    ensure!(stages.len() >= 2, "{} stages", stages.len());
    for stage in stages {
        ensure!(stage["state"] == "successful", "a stage that ended: {stage}");
        let tasks = stage["tasks"].as_array().context("no tasks")?;
        ensure!(!tasks.is_empty(), "a stage without tasks: {stage}");
        for task in tasks {
            let number = |key: &str| task[key].as_u64().with_context(|| format!("{key} of {task}"));
            ensure!(number("started_ms")? >= after["started_ms"].as_u64().unwrap_or(u64::MAX), "it began late: {task}");
            ensure!(number("ended_ms")? >= number("started_ms")? && number("bytes")? > 0, "a task that ended: {task}");
            ensure!(task["executor_id"].as_str().is_some_and(|id| !id.is_empty()), "a task without executor: {task}");
        }
        let rows: u64 = tasks.iter().filter_map(|task| task["rows"].as_u64()).sum();
        ensure!(stage["output_rows"] == rows, "rows of a stage and its tasks differ: {stage}");
    }
    let last = &stages[stages.len() - 1];
    ensure!(last["output_rows"] == 7 && last["inputs"] == json!([stages.len() - 1]), "the last stage: {last}");
    ensure!(
        stages[0]["inputs"] == json!([]) && stages[0]["plan"].as_array().is_some_and(|p| !p.is_empty()),
        "the first"
    );
    ensure!(get(&service, &format!("/api/queries/{id}/stages"))? == after["stages"], "stages alone differ");

    // The same facts as tables.
    let told = format!(
        "SELECT count(*), sum(task_count), min(ended_partitions) > 0, max(inputs) FROM system.stages WHERE query_id = '{id}'"
    );
    let tasks: usize = stages.iter().filter_map(|stage| stage["tasks"].as_array()).map(Vec::len).sum();
    let table = bed.block_on(service.rows(&told))?;
    let wanted = [stages.len().to_string(), tasks.to_string(), "t".to_owned(), (stages.len() - 1).to_string()];
    ensure!(table == [wanted.map(Some)], "system.stages has {table:?}");
    let told = format!("SELECT count(*), min(bytes) > 0 FROM system.tasks WHERE query_id = '{id}'");
    let table = bed.block_on(service.rows(&told))?;
    ensure!(table == [[Some(tasks.to_string()), Some("t".to_owned())]], "system.tasks has {table:?}");
    let executors = get(&service, "/api/executors")?;
    ensure!(executors.as_array().is_some_and(|all| all.len() == 3), "{executors}");

    // What runs in the server is one stage with a plan that tells rows and times, also after its end.
    bed.block_on(service.rows("SELECT count(*) AS in_server FROM generate_series(1, 100) AS t(n)"))?;
    let query = query_when(&service, "SELECT count(*) AS in_server FROM generate_series(1, 100) AS t(n)", |_| true)?;
    let stages = get(&service, &format!("/api/queries/{}/stages", query["id"].as_str().unwrap_or_default()))?;
    ensure!(stages.as_array().is_some_and(|stages| stages.len() == 1), "one task is {stages}");
    if layout == Layout::Embedded {
        ensure!(stages[0]["tasks"][0]["executor_id"] == "server" && stages[0]["state"] == "successful", "{stages}");
        ensure!(stages[0]["plan"].to_string().contains("output_rows"), "a plan without metrics: {stages}");
    }
    Ok(())
}

fn statements_run_over_http(bed: &Bed, layout: Layout) -> Result<()> {
    let service = bed.own_service(layout, &[])?;
    let text =
        "SET search_path = public; SELECT 1 AS one, NULL::text AS nothing, 0.10 AS tenth, 'x' || chr(34) AS quoted";
    let lines = run_sql(&service, &json!({ "sql": text }))?;
    ensure!(lines.len() == 3 && lines[0]["result"]["tag"] == "SET" && lines[2]["done"].is_object(), "{lines:?}");
    let table = &lines[1]["result"]["table"];
    ensure!(table["rows"] == json!([["1", null, "0.10", "x\""]]) && table["cut"] == Value::Null, "{table}");
    ensure!(table["columns"][0]["name"] == "one" && table["columns"][0]["is_number"] == true, "{table}");
    ensure!(table["columns"][1]["type"] == "text" && table["columns"][1]["is_number"] == false, "{table}");

    // An error is told as psql tells it, and ends the text.
    let lines = run_sql(&service, &json!({ "sql": "SELECT 1;\nSELECT nosuch FROM system.queries; SELECT 2" }))?;
    let error = &lines[1]["error"];
    ensure!(lines.len() == 3 && error["state"] == "42703" && error["position"] == 18, "{lines:?}");
    let lines = run_sql(&service, &json!({ "sql": "SELECT * FROM system.querie" }))?;
    let hint = lines[0]["error"]["hint"].as_str().unwrap_or_default();
    ensure!(hint.contains("system.queries"), "{lines:?}");

    // A long result is cut, and its query has then ended well.
    let long = "SELECT n FROM generate_series(1, 1000000) AS t(n)";
    let lines = run_sql(&service, &json!({ "sql": long }))?;
    let table = &lines.iter().find(|line| line["result"].is_object()).context("no result")?["result"]["table"];
    ensure!(table["cut"] == "rows" && table["rows"].as_array().is_some_and(|rows| rows.len() == 1000), "it is not cut");
    ensure!(query_when(&service, long, |query| query["state"] != "running")?["state"] == "finished", "a cut result");
    let wide = "SELECT repeat('x', 100000) AS x FROM generate_series(1, 100) AS t(n)";
    let lines = run_sql(&service, &json!({ "sql": wide }))?;
    let table = &lines.iter().find(|line| line["result"].is_object()).context("no result")?["result"]["table"];
    ensure!(table["cut"] == "bytes" && table["rows"].as_array().is_some_and(|rows| rows.len() == 10), "it is not cut");

    // Who runs it, and in which queue.
    let lines = run_sql(&service, &json!({ "sql": "SELECT current_user", "user": "ann", "queue": "default" }))?;
    ensure!(lines[0]["result"]["table"]["rows"] == json!([["ann"]]), "{lines:?}");
    let lines = run_sql(&service, &json!({ "sql": "SELECT 1", "queue": "nosuch" }))?;
    ensure!(lines[0]["error"]["state"] == "42704", "{lines:?}");
    let lines = run_sql(&service, &json!({ "sql": "COPY (SELECT 1) TO STDOUT" }))?;
    ensure!(lines[0]["error"]["state"] == "0A000", "{lines:?}");

    // A query tells its id while it runs, is stopped by that, and when its client goes away.
    let body = json!({ "sql": ENDLESS }).to_string();
    let mut stream = begin(&service, "POST", "/api/sql", &[OWN, JSON], &body)?;
    let query = query_when(&service, ENDLESS, |query| query["state"] == "running")?;
    let id = query["id"].as_str().context("no id")?;
    let stop = format!("/api/queries/{id}/cancel");
    ensure!(send(&service, "POST", &stop, &[OWN, JSON], "{}")?.status == 204, "it is not stopped");
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains(&format!("{{\"running\":\"{id}\"}}")) && answer.contains("57014"), "{answer}");
    ensure!(send(&service, "POST", &stop, &[OWN, JSON], "{}")?.status == 409, "what has ended is stopped");
    let abandoned = ENDLESS.replace("= 4", "= 5");
    let stream = begin(&service, "POST", "/api/sql", &[OWN, JSON], &json!({ "sql": abandoned }).to_string())?;
    query_when(&service, &abandoned, |query| query["state"] == "running")?;
    drop(stream);
    let ended = query_when(&service, &abandoned, |query| query["state"] == "failed")?;
    ensure!(ended["error"].as_str().is_some_and(|error| error.starts_with("57014")), "{ended}");
    bed.block_on(service.check_serving())
}

fn a_queued_query_tells_why(bed: &Bed, layout: Layout) -> Result<()> {
    let service = bed.own_service(layout, &[])?;
    bed.block_on(service.rows("CREATE QUEUE narrow WITH (max_running = 1)"))?;
    let first = json!({ "sql": ENDLESS, "queue": "narrow" }).to_string();
    let runs = begin(&service, "POST", "/api/sql", &[OWN, JSON], &first)?;
    query_when(&service, ENDLESS, |query| query["state"] == "running")?;
    let second = ENDLESS.replace("= 4", "= 5");
    let body = json!({ "sql": second, "queue": "narrow" }).to_string();
    let waits = begin(&service, "POST", "/api/sql", &[OWN, JSON], &body)?;
    let query = query_when(&service, &second, |query| query["state"] == "queued")?;
    let waiting = query["waiting"].as_str().unwrap_or_default();
    let wanted = "waits for its turn in queue root.narrow: 1 query runs in root.narrow, which is its max_running";
    ensure!(waiting.starts_with(wanted), "it is told {waiting:?}");
    let table = bed.block_on(service.rows("SELECT waiting FROM system.queries WHERE state = 'queued'"))?;
    ensure!(format!("{table:?}").contains(wanted), "system.queries has {table:?}");

    let queues = get(&service, "/api/queues")?;
    let narrow = queues.as_array().into_iter().flatten().find(|queue| queue["queue"] == "root.narrow");
    let narrow = narrow.context("no queue")?;
    let counts = (&narrow["running_queries"], &narrow["queued_queries"], &narrow["max_running"]);
    ensure!(counts == (&json!(1), &json!(1), &json!(1)), "the queue is {narrow}");
    // A look a second is kept, of which the last are asked for again and again.
    let deadline = Instant::now() + PATIENCE;
    let history = loop {
        let history = get(&service, "/api/queues/history")?;
        let seen = |sample: &Value| {
            let queues = sample["queues"].as_array().into_iter().flatten();
            queues.into_iter().any(|queue| queue["queue"] == "root.narrow" && queue["queued_queries"] == 1)
        };
        if history.as_array().is_some_and(|samples| samples.len() > 2 && samples.iter().any(seen)) {
            break history;
        }
        ensure!(Instant::now() < deadline, "the history is {history}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let newest = history.as_array().and_then(|samples| samples.last()?["at_ms"].as_u64()).context("no sample")?;
    let news = get(&service, &format!("/api/queues/history?since_ms={newest}"))?;
    ensure!(news.as_array().is_some_and(|samples| samples.len() < 3), "all is told again: {news}");
    let table = bed.block_on(service.rows("SELECT max(queued_queries) FROM system.queue_history"))?;
    ensure!(table == [[Some("1".to_owned())]], "system.queue_history has {table:?}");
    drop((runs, waits));
    query_when(&service, &second, |query| query["state"] == "failed")?;
    bed.block_on(service.check_serving())
}

fn pages_of_strangers_are_refused(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Embedded, &["--http-host", "sluice.example"])?;
    let own_origin = format!("http://127.0.0.1:{}", service.http_port);
    let body = json!({ "sql": "CREATE VIEW stolen AS SELECT 1 AS x" }).to_string();
    let sent =
        |headers: &[(&str, &str)]| Ok::<_, anyhow::Error>(send(&service, "POST", "/api/sql", headers, &body)?.status);
    let text = ("Content-Type", "text/plain");
    // What a page of another origin can have a browser send without asking, and what it would have to ask for.
    ensure!(sent(&[text])? == 403, "a form of another site runs SQL");
    ensure!(sent(&[JSON])? == 403, "a request without the page's header runs SQL");
    ensure!(sent(&[OWN, text])? == 415, "text runs as SQL");
    for site in ["cross-site", "same-site", "none"] {
        ensure!(sent(&[OWN, JSON, ("Sec-Fetch-Site", site)])? == 403, "a {site} request runs SQL");
    }
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        ensure!(sent(&[OWN, JSON, ("Origin", origin)])? == 403, "a page of {origin} runs SQL");
    }
    // A browser is told nothing that would let a page of another origin ask.
    let asked = [("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST")];
    let answer = send(&service, "OPTIONS", "/api/sql", &asked, "")?;
    ensure!(answer.status != 200 && !answer.head.contains("access-control-allow"), "{}", answer.head);
    // A stranger's name that was made to mean this machine.
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example"] {
        for (method, path) in [("GET", "/"), ("GET", "/api/queries"), ("GET", "/assets/main.js"), ("POST", "/api/sql")]
        {
            let headers = [OWN, JSON, ("Host", host), ("Sec-Fetch-Site", "same-origin")];
            let answer = send(&service, method, path, &headers, &body)?;
            ensure!(answer.status == 421, "{method} {path} at {host}: {}", answer.status);
        }
    }
    for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "sluice.example"] {
        let answer = send(&service, "GET", "/api/queries", &[("Host", host)], "")?;
        ensure!(answer.status == 200, "at {host}: {} {}", answer.status, answer.body);
    }
    let left = bed.block_on(service.rows("SELECT count(*) FROM system.queries WHERE sql LIKE 'CREATE VIEW%'"))?;
    ensure!(left == [[Some("0".to_owned())]], "something was run: {left:?}");
    ensure!(
        sent(&[OWN, JSON, ("Sec-Fetch-Site", "same-origin"), ("Origin", &own_origin)])? == 200,
        "the page itself is refused"
    );
    // A text that is too long for a statement is not read to its end.
    let long = json!({ "sql": "x".repeat(2 << 20) }).to_string();
    let answer = send(&service, "POST", "/api/sql", &[OWN, JSON], &long);
    ensure!(answer.map_or(true, |answer| answer.status == 413), "a text of 2 MiB is read");
    Ok(())
}

fn hostile_text_stays_text(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Embedded, &[])?;
    let hostile = "SELECT '</script><script>alert(1)</script><img src=x onerror=alert(1)>' AS \"<b>x</b>\"";
    bed.block_on(service.rows(hostile))?;
    let query = query_when(&service, hostile, |query| query["state"] == "finished")?;
    let paths = ["/api/queries".to_owned(), format!("/api/queries/{}", query["id"].as_str().unwrap_or_default())];
    for path in &paths {
        let answer = send(&service, "GET", path, &[], "")?;
        for header in ["content-type: application/json", "x-content-type-options: nosniff", "cache-control: no-store"] {
            ensure!(answer.head.contains(header), "{path} has no {header}: {}", answer.head);
        }
    }
    for path in ["/", "/assets/main.js", "/assets/style.css", "/assets/icon.svg", &paths[0], "/assets/none.js"] {
        let answer = send(&service, "GET", path, &[], "")?;
        let policy = answer.head.lines().find(|line| line.starts_with("content-security-policy:"));
        let policy = policy.with_context(|| format!("{path} has no policy"))?;
        ensure!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
        ensure!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        ensure!(!answer.body.contains("alert(1)") || path == paths[0], "{path} has the statement in it");
    }
    ensure!(send(&service, "GET", "/assets/../api.rs", &[], "")?.status == 404, "files of the service are served");
    Ok(())
}

fn roles_see_and_stop_their_own(bed: &Bed) -> Result<()> {
    let service = bed.own_service_with_password(Layout::Embedded, "secret")?;
    bed.block_on(service.rows("CREATE USER ann PASSWORD 'ann-secret'"))?;
    bed.block_on(service.rows("CREATE USER eve PASSWORD 'eve-secret'"))?;
    // sluice:secret, ann:ann-secret, eve:eve-secret
    let root = ("Authorization", "Basic c2x1aWNlOnNlY3JldA==");
    let ann = ("Authorization", "Basic YW5uOmFubi1zZWNyZXQ=");
    let eve = ("Authorization", "Basic ZXZlOmV2ZS1zZWNyZXQ=");
    for path in ["/", "/assets/main.js", "/api/session", "/api/queries", "/api/queues/history"] {
        ensure!(send(&service, "GET", path, &[], "")?.status == 401, "{path} is for everybody");
    }
    ensure!(
        send(&service, "POST", "/api/sql", &[OWN, JSON], "{\"sql\":\"SELECT 1\"}")?.status == 401,
        "SQL is for all"
    );

    // The login is who runs a statement, whoever it says it is, with the rights of that role.
    let body = json!({ "sql": "SELECT current_user", "user": "sluice" }).to_string();
    let lines = send(&service, "POST", "/api/sql", &[OWN, JSON, ann], &body)?.lines()?;
    ensure!(lines[0]["result"]["table"]["rows"] == json!([["ann"]]), "{lines:?}");
    let body = json!({ "sql": "SELECT * FROM system.queries" }).to_string();
    let lines = send(&service, "POST", "/api/sql", &[OWN, JSON, ann], &body)?.lines()?;
    ensure!(lines[0]["error"]["state"] == "42501", "{lines:?}");

    let body = json!({ "sql": ENDLESS }).to_string();
    let running = begin(&service, "POST", "/api/sql", &[OWN, JSON, ann], &body)?;
    let queries_of = |who| -> Result<Vec<Value>> {
        let all = send(&service, "GET", "/api/queries", &[who], "")?.json()?;
        Ok(all.as_array().cloned().unwrap_or_default())
    };
    let deadline = Instant::now() + PATIENCE;
    let id = loop {
        let own = queries_of(ann)?;
        ensure!(own.iter().all(|query| query["user"] == "ann"), "ann sees {own:?}");
        if let Some(query) = own.iter().find(|query| query["sql"] == ENDLESS && query["state"] == "running") {
            break query["id"].as_str().context("no id")?.to_owned();
        }
        ensure!(Instant::now() < deadline, "ann's query does not run: {own:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure!(queries_of(root)?.iter().any(|query| query["id"] == id.as_str()), "a superuser does not see it");
    ensure!(queries_of(eve)?.is_empty(), "eve sees what ann runs");
    let (one, stop) = (format!("/api/queries/{id}"), format!("/api/queries/{id}/cancel"));
    ensure!(send(&service, "GET", &one, &[eve], "")?.status == 404, "eve sees ann's query");
    ensure!(send(&service, "GET", &format!("{one}/stages"), &[eve], "")?.status == 404, "eve sees its stages");
    ensure!(send(&service, "POST", &stop, &[OWN, JSON, eve], "{}")?.status == 404, "eve stops ann's query");
    for path in ["/api/executors", "/api/queues", "/api/queues/history"] {
        ensure!(send(&service, "GET", path, &[eve], "")?.status == 403, "{path} is for eve");
    }
    // Who may look may not stop.
    bed.block_on(service.rows("GRANT pg_monitor TO eve"))?;
    ensure!(send(&service, "GET", &one, &[eve], "")?.json()?["may_cancel"] == false, "a monitor may stop");
    ensure!(send(&service, "POST", &stop, &[OWN, JSON, eve], "{}")?.status == 403, "a monitor stops ann's query");
    ensure!(send(&service, "GET", "/api/queues", &[eve], "")?.status == 200, "a monitor sees no queues");
    ensure!(send(&service, "POST", &stop, &[JSON, root], "{}")?.status == 403, "it is stopped without the header");
    ensure!(send(&service, "POST", &stop, &[OWN, JSON, root], "{}")?.status == 204, "a superuser does not stop it");
    drop(running);
    Ok(())
}

/// A browser, if this machine has one.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.is_file())
}

/// The page's document after its script has run for a while.
fn drawn(browser: &PathBuf, profile: &str, url: &str) -> Result<String> {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=4000"])
        .args([&format!("--user-data-dir={profile}"), "--window-size=1280,900", "--dump-dom", url])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn a_browser_draws_it(bed: &Bed) -> Result<()> {
    let Some(browser) = browser() else {
        println!("skipped: this machine has no Chromium");
        return Ok(());
    };
    let service = bed.own_service(Layout::Embedded, &[])?;
    let client = bed.block_on(service.connect())?;
    let nations = bed.tpch("0.01")?.join("nation.parquet");
    let sql = format!("SELECT '<i>hostile</i>' AS k, count(*) FROM '{}' GROUP BY n_regionkey", nations.display());
    for statement in ["SET sluice.single_task_max_bytes = 0", &sql] {
        bed.block_on(client.simple_query(statement)).map_err(SqlError)?;
    }
    let query = query_when(&service, &sql, |query| query["state"] == "finished")?;
    let id = query["id"].as_str().context("no id")?;
    let profile = bed.scratch("browser")?.display().to_string();
    let at = |part: &str| drawn(&browser, &profile, &format!("http://127.0.0.1:{}/{part}", service.http_port));
    let escaped = "SELECT '&lt;i&gt;hostile&lt;/i&gt;' AS k";
    let wanted: [(String, &[&str]); 5] = [
        (String::new(), &[escaped, "#/query/", "finished"]),
        (
            format!("#/query/{id}"),
            &[escaped, "<svg class=\"graph\"", ">Stage 2<", "<svg class=\"timeline\"", "class=\"task"],
        ),
        ("#/executors".to_owned(), &["3 registered", "vcores"]),
        ("#/queues".to_owned(), &["default", "fair share", "<svg"]),
        ("#/sql".to_owned(), &["<textarea", "Ctrl+Enter"]),
    ];
    for (part, texts) in wanted {
        let document = at(&part)?;
        for text in texts {
            ensure!(document.contains(text), "/{part} has no {text:?}:\n{document}");
        }
        ensure!(!document.contains("<i>hostile"), "/{part} has markup of a statement in it");
    }
    Ok(())
}
