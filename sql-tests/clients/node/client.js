// node-postgres against a running service: queries, parameters, cursors, streams, COPY, errors, a pool.
//
// Usage: node client.js PORT

const assert = require('node:assert/strict');
const { Client, Pool } = require('pg');
const { to: copyTo } = require('pg-copy-streams');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');

const server = { host: '127.0.0.1', port: Number(process.argv[2]), user: 'sluice', database: 'sluice' };

const checks = {
  async 'a query gives typed rows'(client) {
    const sql = "SELECT 1::int AS i, 'x' AS t, 1.5::numeric(10, 1) AS n, true AS b, date '2024-02-29' AS d, array[1, 2] AS a, NULL AS nothing";
    const { rows, fields, command } = await client.query(sql);
    const [{ d, ...rest }] = rows;
    assert.deepEqual(rest, { i: 1, t: 'x', n: '1.5', b: true, a: ['1', '2'], nothing: null });
    assert.equal(d.getFullYear(), 2024);
    assert.deepEqual([fields.length, command], [7, 'SELECT']);
  },
  async 'parameters are typed by their casts'(client) {
    const { rows } = await client.query('SELECT $1::int + 1::int AS n, $2::text AS t, $3::bigint AS b, $4::int[] AS a', [41, 'x', '5', [1, 2, null]]);
    assert.deepEqual(rows, [{ n: 42, t: 'x', b: '5', a: [1, 2, null] }]);
  },
  async 'parameters may be times, arrays and json'(client) {
    const at = await client.query('SELECT $1::timestamptz AS t', [new Date(0)]);
    assert.equal(at.rows[0].t.getTime(), 0);
    const any = await client.query('SELECT value FROM generate_series(1, 10) AS t(value) WHERE value = ANY($1::bigint[]) ORDER BY 1', [[1, 2, 20]]);
    assert.deepEqual(any.rows.map((row) => row.value), ['1', '2']);
    const json = await client.query('SELECT $1::text AS t', [{ a: 1 }]);
    assert.equal(json.rows[0].t, '{"a":1}');
  },
  async 'a named statement is prepared once'(client) {
    let sum = 0;
    for (let i = 0; i < 5; i++) {
      const { rows } = await client.query({ name: 'twice', text: 'SELECT $1::int * 2::int AS n', values: [i] });
      sum += rows[0].n;
    }
    assert.equal(sum, 20);
  },
  async 'a cursor reads some rows of many'(client) {
    const cursor = client.query(new Cursor('SELECT value FROM generate_series(1, 100000000) AS t(value)'));
    assert.equal((await cursor.read(3)).length, 3);
    assert.equal((await cursor.read(4)).length, 4);
    await cursor.close();
  },
  async 'a stream has all rows'(client) {
    let count = 0;
    for await (const row of client.query(new QueryStream('SELECT value FROM generate_series(1, 5000) AS t(value)'))) {
      count += row.value ? 1 : 0;
    }
    assert.equal(count, 5000);
  },
  async 'rows are copied out'(client) {
    let text = '';
    for await (const bytes of client.query(copyTo('COPY (SELECT value FROM generate_series(1, 3) AS t(value)) TO STDOUT'))) {
      text += bytes;
    }
    assert.equal(text, '1\n2\n3\n');
  },
  async 'an error has its code and its place'(client) {
    await assert.rejects(client.query('SELECT * FROM no_such_table'), { code: '42P01' });
    await assert.rejects(client.query('SELECT 1 +\nFROM x'), { code: '42601', position: '12' });
    assert.deepEqual((await client.query({ text: 'SELECT 1, 2', rowMode: 'array' })).rows, [['1', '2']]);
  },
  async 'several statements give several results'(client) {
    const results = await client.query('SELECT 1::int AS a; SELECT 2::int AS b');
    assert.deepEqual(results.map((result) => result.rows), [[{ a: 1 }], [{ b: 2 }]]);
  },
  async 'a failed transaction ends with a rollback'(client) {
    await client.query('BEGIN');
    await assert.rejects(client.query('SELECT 1 / 0'), { code: '22012' });
    await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
    assert.equal((await client.query('ROLLBACK')).command, 'ROLLBACK');
  },
  async 'a pool shares its connections'() {
    const pool = new Pool({ ...server, max: 4 });
    const results = await Promise.all([...Array(20).keys()].map((i) => pool.query('SELECT $1::int AS n', [i])));
    assert.equal(results.reduce((sum, { rows }) => sum + rows[0].n, 0), 190);
    await pool.end();
  },
};

(async () => {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const client = new Client(server);
    await client.connect();
    try {
      await check(client);
    } catch (error) {
      failed += 1;
      console.error(`${name}: ${error.stack}`);
    } finally {
      await client.end();
    }
  }
  console.log(`${Object.keys(checks).length - failed} ok, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
})();
