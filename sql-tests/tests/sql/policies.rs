//! Rows and values that a user may not see, and all the ways in which one might look at them.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use libtest_mimic::Trial;
use sluice_sql_tests::python;
use sluice_sql_tests::sluice_process::{Layout, Service};
use tokio_postgres::Client;

use crate::access::{expect_states, run, state_of};
use crate::bed::{Bed, trial};

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    type Test = fn(&Bed, Layout) -> Result<()>;
    let tests: [(&str, Test); 4] = [
        ("hidden_rows_and_values_are_seen_in_no_way", hidden_rows_and_values_are_seen_in_no_way),
        ("what_is_prepared_follows_its_policies", what_is_prepared_follows_its_policies),
        ("policies_live_as_long_as_their_tables", policies_live_as_long_as_their_tables),
        ("tables_in_cassandra_have_policies_too", tables_in_cassandra_have_policies_too),
    ];
    let of = |(name, test): &(&str, Test), layout: Layout| {
        let test = *test;
        trial(bed, format!("policies::{name}::{}", layout.name()), move |bed| test(bed, layout))
    };
    let mut trials: Vec<Trial> =
        tests.iter().flat_map(|test| Layout::ALL.into_iter().map(move |layout| of(test, layout))).collect();
    trials.push(trial(bed, "policies::queues_are_granted".to_owned(), queues_are_granted));
    trials
}

/// Four people in a Parquet file, of whom two are Ann's, and roles: ann and bob are staff, carl is nobody.
async fn people(service: &Service, bed: &Bed, name: &str) -> Result<Client> {
    let root = service.connect().await?;
    let dir = bed.scratch(name)?;
    let file = dir.join("people.parquet");
    let statements = format!(
        "CREATE ROLE staff; CREATE USER ann; CREATE USER bob; CREATE USER carl; GRANT staff TO ann, bob; \
         COPY (SELECT * FROM (VALUES (1, 'Ann', '555-1111', 100, 'ann'), (2, 'Bob', '555-2222', 200, 'bob'), \
         (3, 'Carl', '555-3333', 5000, 'bob'), (4, 'Dora', '444-4444', 300, 'ann')) \
         AS t(id, name, phone, salary, owner)) TO '{file}' STORED AS PARQUET; \
         CREATE EXTERNAL TABLE people STORED AS PARQUET LOCATION '{file}'; \
         GRANT ALL ON SCHEMA public TO staff, carl",
        file = file.display()
    );
    run(&root, &statements).await?;
    Ok(root)
}

async fn policies(root: &Client) -> Result<()> {
    let statements = "CREATE POLICY own ON people TO staff USING (owner = current_user); \
         CREATE MASK phones ON people (phone) TO staff USING (substr(phone, 1, 3) || '…')";
    run(root, statements).await.map(|_| ())
}

async fn copied(client: &Client, sql: &str) -> Result<String> {
    let parts: Vec<_> = client.copy_out(sql).await?.try_collect().await?;
    Ok(parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect())
}

/// Runs each query, whose rows are told as text: columns with a comma between, rows with a blank.
async fn expect(client: &Client, queries: &[(&str, &str)]) -> Result<()> {
    for (sql, wanted) in queries {
        let rows = run(client, sql).await?;
        let text = |row: &Vec<Option<String>>| {
            row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(",")
        };
        let found = rows.iter().map(text).collect::<Vec<_>>().join(" ");
        ensure!(found == *wanted, "{sql} gives {found:?} where {wanted:?} was expected");
    }
    Ok(())
}

fn hidden_rows_and_values_are_seen_in_no_way(bed: &Bed, layout: Layout) -> Result<()> {
    let service = bed.own_service(layout, &[])?;
    bed.block_on(async {
        let root = people(&service, bed, &format!("hidden-{}", layout.name())).await?;
        run(&root, "CREATE VIEW everybody AS SELECT id, phone FROM people").await?;
        policies(&root).await?;
        let ann = service.connect_as("ann").await?;
        // Small queries run in the server, others on executors.
        for single_task_max_bytes in ["32MB", "0"] {
            run(&ann, &format!("SET sluice.single_task_max_bytes = '{single_task_max_bytes}'")).await?;
            expect(&ann, &SEEN_BY_ANN).await.context(single_task_max_bytes)?;
        }
        ensure!(copied(&ann, "COPY people (id, phone) TO STDOUT").await?.lines().count() == 2, "COPY shows more");
        let text = copied(&ann, "COPY (SELECT * FROM people) TO STDOUT (FORMAT csv)").await?;
        ensure!(!text.contains("1111") && !text.contains("Bob"), "COPY shows {text}");
        let explained = format!("{:?}", run(&ann, "EXPLAIN ANALYZE SELECT * FROM people").await?);
        ensure!(explained.contains("PolicyBarrierExec") && explained.contains("Rows: 2"), "{explained}");
        expect_states(&ann, "42501", &REFUSED).await?;
        // A predicate that fails on a row that is hidden does not tell of it; one that is seen fails.
        for hidden in ["1 / (salary - 5000) < 5", "id < 9 AND 1 / (salary - 200) < 5"] {
            expect(&ann, &[(&format!("SELECT count(*) FROM people WHERE {hidden}"), "2")]).await?;
        }
        let error = ann.simple_query("SELECT id FROM people WHERE CAST(name AS int) = id").await.err();
        let told = error.as_ref().and_then(|error| error.as_db_error()).map(|error| error.message().to_owned());
        let told = told.context("a name is a number")?;
        ensure!(!told.contains("Bob") && !told.contains("Carl"), "an error tells a hidden value: {told}");
        expect_states(&ann, "22012", &["SELECT id FROM people WHERE 1 / (salary - 300) < 5"]).await?;

        expect(&service.connect_as("bob").await?, &[("SELECT id, phone FROM people ORDER BY id", "2,555… 3,555…")])
            .await?;
        expect(&service.connect_as("carl").await?, &[("SELECT count(*) FROM people", "0")]).await?;
        expect(&root, &[("SELECT count(*), min(phone) FROM people", "4,444-4444")]).await?;
        restrictive_policies_take_rows(&root, &ann).await
    })?;
    let port = service.flight_port.to_string();
    python::run(bed.python()?, "clients/policies_client.py", &[port.as_str()]).map(|_| ())
}

/// What Ann sees of the people, whichever way she looks.
const SEEN_BY_ANN: [(&str, &str); 25] = [
    ("SELECT id, name, phone FROM people ORDER BY id", "1,Ann,555… 4,Dora,444…"),
    ("SELECT * FROM people ORDER BY id LIMIT 1", "1,Ann,555…,100,ann"),
    ("SELECT count(*) FROM sluice.public.people", "2"),
    ("SELECT min(phone), max(phone), max(salary) FROM people", "444…,555…,300"),
    ("SELECT id FROM people WHERE phone = '555-1111'", ""),
    ("SELECT id FROM people WHERE phone = '555…'", "1"),
    ("SELECT id FROM people WHERE phone LIKE '%1111' OR phone > '556'", ""),
    ("SELECT id FROM people WHERE id = 2 OR owner = 'bob' OR true ORDER BY id", "1 4"),
    ("SELECT phone FROM people ORDER BY phone DESC", "555… 444…"),
    ("SELECT phone, count(*) FROM people GROUP BY phone ORDER BY 1", "444…,1 555…,1"),
    ("SELECT a.id FROM people a JOIN people b ON a.phone = b.phone ORDER BY 1", "1 4"),
    ("SELECT v.id FROM (VALUES (1), (2), (3)) AS v(id) JOIN people USING (id)", "1"),
    (
        "SELECT v.id, p.name FROM (VALUES (1), (3)) AS v(id) LEFT JOIN people p ON p.id = v.id ORDER BY 1",
        "1,Ann 3,NULL",
    ),
    ("SELECT v.id FROM (VALUES (1), (3)) AS v(id) WHERE EXISTS (SELECT 1 FROM people p WHERE p.id = v.id)", "1"),
    ("SELECT (SELECT sum(salary) FROM people)", "400"),
    ("WITH p AS (SELECT * FROM people) SELECT count(*) FROM p UNION ALL SELECT count(*) FROM people", "2 2"),
    ("SELECT id, rank() OVER (ORDER BY salary) FROM people ORDER BY id", "1,1 4,2"),
    ("BEGIN; DECLARE c CURSOR FOR SELECT id FROM people ORDER BY id; FETCH ALL FROM c; COMMIT", "1 4"),
    ("PREPARE p AS SELECT id FROM people WHERE id < $1; EXECUTE p (9); DEALLOCATE p", "1 4"),
    ("COMPARE SUMMARY people WITH (SELECT * FROM people WHERE id = 1) ON (id)", "2,1,1,0,0,1"),
    ("SELECT count(*) FROM information_schema.columns WHERE table_name = 'people'", "5"),
    ("SELECT table_type FROM information_schema.tables WHERE table_name = 'people'", "BASE TABLE"),
    ("SELECT count(*) FROM pg_catalog.pg_attribute WHERE attrelid = 'people'::regclass AND attnum > 0", "5"),
    // A view is read with the rights of whoever made it.
    ("SELECT count(*), max(phone) FROM everybody", "4,555-3333"),
    ("SET datafusion.optimizer.max_passes = 1; SELECT id FROM people WHERE phone = '555-1111' OR id = 3", ""),
];

/// What she may not do, though all privileges were granted to her.
const REFUSED: [&str; 14] = [
    "INSERT INTO people VALUES (5, 'E', '1', 1, 'ann')",
    "UPDATE people SET salary = 1",
    "DELETE FROM people",
    "TRUNCATE people",
    "COPY people FROM STDIN",
    "ANALYZE people",
    "CREATE VIEW mine AS SELECT * FROM people",
    "CREATE OR REPLACE VIEW everybody AS SELECT (SELECT max(salary) FROM people) AS m",
    "CREATE POLICY mine ON people USING (true)",
    "ALTER POLICY own ON people USING (true)",
    "DROP POLICY own ON people",
    "CREATE MASK mine ON people (phone) USING (phone)",
    "DROP MASK phones ON people",
    "SELECT * FROM system.policies",
];

async fn restrictive_policies_take_rows(root: &Client, ann: &Client) -> Result<()> {
    run(root, "CREATE POLICY cheap ON people AS RESTRICTIVE USING (salary < 200)").await?;
    expect(ann, &[("SELECT id FROM people", "1")]).await?;
    run(root, "CREATE POLICY bosses ON people TO ann USING (id IN (SELECT max(id) FROM people) OR id = 2)").await?;
    expect(ann, &[("SELECT id FROM people", "1")]).await?;
    run(root, "DROP POLICY cheap ON people").await?;
    expect(ann, &[("SELECT id FROM people ORDER BY id", "1 2 4")]).await?;
    run(root, "DROP POLICY own ON people; DROP POLICY bosses ON people").await?;
    expect(ann, &[("SELECT id, phone FROM people WHERE id = 2", "2,555…"), ("SELECT count(*) FROM people", "4")]).await
}

fn what_is_prepared_follows_its_policies(bed: &Bed, layout: Layout) -> Result<()> {
    let service = bed.own_service(layout, &[])?;
    bed.block_on(async {
        let root = people(&service, bed, &format!("prepared-{}", layout.name())).await?;
        let ann = service.connect_as("ann").await?;
        let count = ann.prepare("SELECT count(*) FROM people WHERE id > $1::int").await?;
        run(&ann, "PREPARE named AS SELECT max(phone) FROM people").await?;
        let counted = async || -> Result<i64> { Ok(ann.query_one(&count, &[&0_i32]).await?.get(0)) };
        ensure!(counted().await? == 4, "there are four people");
        expect(&ann, &[("EXECUTE named", "555-3333")]).await?;
        policies(&root).await?;
        ensure!(counted().await? == 2, "what was prepared before the policy is run as before");
        expect(&ann, &[("EXECUTE named", "555…"), ("EXECUTE named", "555…")]).await?;
        run(&root, "ALTER POLICY own ON people USING (false)").await?;
        ensure!(counted().await? == 0, "an older policy is in force");
        expect(&ann, &[("EXECUTE named", "NULL")]).await?;
        run(&root, "ALTER POLICY own ON people TO carl").await?;
        ensure!(counted().await? == 0, "without a policy of one's own there are rows");
        run(&root, "DROP POLICY own ON people; REVOKE staff FROM ann; GRANT SELECT ON people TO ann").await?;
        ensure!(counted().await? == 4, "the policy is dropped");
        expect(&ann, &[("EXECUTE named", "555-3333")]).await?;
        run(&root, "REVOKE SELECT ON people FROM ann").await?;
        expect_states(&ann, "42501", &["EXECUTE named", "SELECT * FROM people"]).await
    })
}

fn policies_live_as_long_as_their_tables(bed: &Bed, layout: Layout) -> Result<()> {
    let mut service = bed.own_service(layout, &[])?;
    bed.block_on(async {
        let root = people(&service, bed, &format!("kept-{}", layout.name())).await?;
        policies(&root).await?;
        expect_states(&root, "42710", &["CREATE POLICY own ON people USING (true)"]).await?;
        expect_states(&root, "2BP01", &["DROP ROLE staff"]).await?;
        expect_states(&root, "42704", &["CREATE POLICY x ON people TO nobody USING (true)", "DROP MASK own ON people"])
            .await?;
        expect_states(&root, "42P01", &["CREATE POLICY x ON nothing USING (true)"]).await?;
        expect_states(
            &root,
            "42703",
            &["CREATE POLICY x ON people USING (nothing = 1)", "CREATE MASK x ON people (nothing) USING ('')"],
        )
        .await?;
        expect_states(&root, "42804", &["CREATE MASK x ON people (salary) USING ('***')"]).await?;
        expect_states(
            &root,
            "0A000",
            &[
                "CREATE POLICY x ON people USING (id = $1)",
                "CREATE MASK x ON people (id) USING (sum(id) OVER ())",
                "CREATE POLICY x ON system.roles USING (true)",
            ],
        )
        .await?;
        expect_states(&root, "42601", &["CREATE POLICY x ON people USING (true) OR (true)"]).await?;
        run(&root, "CREATE MASK pay ON people (salary) TO staff USING (NULL)").await?;
        let rows = run(&root, "SELECT policy, kind, column_name, roles, expression FROM system.policies").await?;
        ensure!(
            rows.len() == 3 && format!("{rows:?}").contains("owner = current_user"),
            "system.policies has {rows:?}"
        );
        anyhow::Ok(())
    })?;
    bed.block_on(service.restart())?;
    bed.block_on(async {
        let ann = service.connect_as("ann").await?;
        expect(&ann, &[("SELECT id, salary FROM people ORDER BY id", "1,NULL 4,NULL")]).await?;
        let root = service.connect().await?;
        run(&root, "DROP TABLE people").await?;
        expect(&root, &[("SELECT count(*) FROM system.policies", "0")]).await?;
        run(&root, "DROP ROLE staff").await.map(|_| ())
    })
}

fn tables_in_cassandra_have_policies_too(bed: &Bed, layout: Layout) -> Result<()> {
    let cassandra = bed.cassandra()?;
    let service = bed.own_service(layout, &[])?;
    let keyspace = format!("policies_{}", layout.name());
    bed.block_on(cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {keyspace}")))?;
    let folder = bed.scratch(&format!("policies-backup-{}", layout.name()))?;
    bed.block_on(async {
        let root = service.connect().await?;
        let points = cassandra.contact_points();
        for sql in [
            format!("CREATE CATALOG cass USING cassandra WITH (contact_points = '{points}')"),
            format!("CREATE SCHEMA cass.{keyspace} WITH (replication_factor = 1)"),
            format!(
                "CREATE TABLE cass.{keyspace}.cards WITH (primary_key = 'number') AS SELECT '4000-' || n AS number, \
                 CASE n % 2 WHEN 0 THEN 'ann' ELSE 'bob' END AS owner, n AS amount FROM generate_series(1, 100) AS t(n)"
            ),
            "CREATE USER ann".to_owned(),
            format!("GRANT ALL ON SCHEMA cass.{keyspace} TO ann"),
            "GRANT pg_read_server_files, pg_write_server_files TO ann".to_owned(),
            format!("CREATE POLICY own ON cass.{keyspace}.cards TO ann USING (owner = current_user)"),
            format!("CREATE MASK numbers ON cass.{keyspace}.cards (number) TO ann USING ('****')"),
        ] {
            run(&root, &sql).await?;
        }
        let ann = service.connect_as("ann").await?;
        run(&ann, &format!("USE cass.{keyspace}")).await?;
        expect(
            &ann,
            &[
                ("SELECT count(*), min(number), max(number), max(amount) FROM cards", "50,****,****,100"),
                // The key itself is not looked up by what is asked of its mask.
                ("SELECT amount FROM cards WHERE number = '4000-2'", ""),
                ("SELECT count(*) FROM cards WHERE number = '****' AND amount <= 10", "5"),
                ("SELECT count(*) FROM cards WHERE number IN ('4000-2', '4000-3') OR owner = 'bob'", "0"),
                ("SELECT v.n FROM (VALUES ('4000-2')) AS v(n) JOIN cards ON cards.number = v.n", ""),
                ("SET cassandra.direct_join = 'on'; SELECT v.n FROM (VALUES ('4000-2')) AS v(n) JOIN cards ON number = v.n", ""),
                ("SELECT count(*) FROM cards WHERE 1 / (amount - 3) < 5", "50"),
            ],
        )
        .await?;
        for asked in ["token(number)", "writetime(owner)"] {
            let state = state_of(ann.simple_query(&format!("SELECT {asked} FROM cards")).await)?;
            ensure!(state != "00000", "{asked} tells of what is hidden");
        }
        let folder = folder.display().to_string();
        let (backup, restore, copy) = (
            format!("BACKUP KEYSPACE cass.{keyspace} TO '{folder}/backup/'"),
            format!("RESTORE KEYSPACE cass.{keyspace} FROM '{folder}/backup/'"),
            format!("COPY cards FROM '{folder}/copy/' (FORMAT parquet)"),
        );
        expect_states(
            &ann,
            "42501",
            &[
                "INSERT INTO cards (number, owner) VALUES ('4000-3', 'ann')",
                "UPDATE cards SET amount = 0 WHERE number = '4000-3'",
                "DELETE FROM cards WHERE number = '4000-3'",
                "TRUNCATE cards",
                "ANALYZE cards",
                &backup,
                &restore,
                &copy,
            ],
        )
        .await?;
        run(&ann, &format!("COPY cards TO '{folder}/cards/' (FORMAT parquet)")).await?;
        run(&ann, "CREATE TABLE mine WITH (primary_key = 'amount') AS SELECT amount, number FROM cards").await?;
        let files = format!("SELECT count(*), max(number) FROM '{folder}/cards/'");
        expect(&ann, &[(files.as_str(), "50,****"), ("SELECT count(*), max(number) FROM mine", "50,****")]).await?;
        // A read by key stays one, where no mask stands for the key.
        run(&root, &format!("DROP MASK numbers ON cass.{keyspace}.cards")).await?;
        let plan = format!("{:?}", run(&ann, "EXPLAIN SELECT amount FROM cards WHERE number = '4000-2'").await?);
        ensure!(plan.contains("PolicyBarrierExec") && plan.contains("keys=1"), "no read by key: {plan}");
        expect(
            &ann,
            &[
                ("SELECT amount FROM cards WHERE number = '4000-2'", "2"),
                ("SELECT amount FROM cards WHERE number = '4000-3'", ""),
            ],
        )
        .await
    })
}

fn queues_are_granted(bed: &Bed) -> Result<()> {
    let mut service = bed.own_service(Layout::Embedded, &[])?;
    bed.block_on(async {
        let root = service.connect().await?;
        run(&root, "CREATE QUEUE bi; CREATE ROLE analysts; CREATE USER ann; CREATE USER bob; GRANT analysts TO ann")
            .await?;
        let (ann, bob) = (service.connect_as("ann").await?, service.connect_as("bob").await?);
        expect_states(&bob, "00000", &["SET queue = 'bi'"]).await?;
        expect_states(&ann, "42501", &["GRANT USAGE ON QUEUE bi TO ann"]).await?;
        run(&root, "GRANT USAGE ON QUEUE bi TO analysts").await?;
        expect_states(&ann, "00000", &["SET queue = 'bi'", "SELECT sum(n) FROM generate_series(1, 9) AS t(n)"]).await?;
        // Who was in it runs nothing more there.
        expect_states(&bob, "42501", &["SELECT sum(n) FROM generate_series(1, 9) AS t(n)", "SET queue = 'bi'"]).await?;
        let error = bob.simple_query("SET queue = 'bi'").await.err().context("bob is let in")?;
        let hint = error.as_db_error().and_then(|error| error.hint()).unwrap_or_default().to_owned();
        ensure!(hint.contains("GRANT USAGE ON QUEUE"), "the hint is {hint:?}");
        expect_states(&root, "55000", &["REVOKE USAGE ON QUEUE bi FROM analysts"]).await?;
        expect_states(&root, "42704", &["GRANT USAGE ON QUEUE bi TO nobody", "GRANT USAGE ON QUEUE no TO ann"]).await?;
        expect_states(&root, "0LP01", &["GRANT SELECT ON QUEUE bi TO ann"]).await?;
        anyhow::Ok(())
    })?;
    bed.block_on(service.restart())?;
    bed.block_on(async {
        let root = service.connect().await?;
        let granted = "SELECT role, privileges FROM system.grants WHERE object = 'queue \"root.bi\"'";
        expect(&root, &[(granted, "analysts,USAGE")]).await?;
        run(&root, "GRANT ALL ON QUEUE bi TO PUBLIC; REVOKE USAGE ON QUEUE bi FROM analysts").await?;
        expect_states(&service.connect_as("bob").await?, "00000", &["SET queue = 'bi'"]).await
    })
}
