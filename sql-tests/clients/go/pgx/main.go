// pgx against a running service: queries, types, prepared statements, batches, COPY, errors, cancellation, a pool.
//
// Usage: go run . PORT
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

type check struct {
	name string
	run  func(ctx context.Context, conn *pgx.Conn) error
}

func same(got, wanted any) error {
	if !reflect.DeepEqual(got, wanted) {
		return fmt.Errorf("got %#v, wanted %#v", got, wanted)
	}
	return nil
}

// sqlState is the code of an error of the server; empty for others.
func sqlState(err error) string {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		return told.Code
	}
	return ""
}

func typesAreBinary(ctx context.Context, conn *pgx.Conn) error {
	var (
		number  int64
		small   int32
		text    string
		decimal pgtype.Numeric
		yes     bool
		day     time.Time
		id      pgtype.UUID
		bytes   []byte
		list    []int64
		nothing *string
		period  pgtype.Interval
	)
	sql := `SELECT 42::bigint, 7::int, 'ü', 12.34::numeric(10, 2), true, timestamptz '2024-02-29 12:00:00Z',
	        '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid, 'abc'::bytea, array[1, 2, 3]::bigint[], NULL::text,
	        interval '1 day 2 hours'`
	err := conn.QueryRow(ctx, sql).Scan(&number, &small, &text, &decimal, &yes, &day, &id, &bytes, &list, &nothing, &period)
	if err != nil {
		return err
	}
	value, _ := decimal.Float64Value()
	got := []any{number, small, text, value.Float64, yes, day.UTC().Hour(), id.Bytes[0], string(bytes), list, nothing == nil, period.Days}
	return same(got, []any{int64(42), int32(7), "ü", 12.34, true, 12, byte(0x6b), "abc", []int64{1, 2, 3}, true, int32(1)})
}

func parametersAreTyped(ctx context.Context, conn *pgx.Conn) error {
	var sum int64
	var text string
	var day time.Time
	at := time.Date(2024, 2, 29, 1, 2, 3, 4000, time.UTC)
	err := conn.QueryRow(ctx, "SELECT $1::bigint + $2::int, $3::text, $4::timestamptz", int64(40), int32(2), "x", at).Scan(&sum, &text, &day)
	if err != nil {
		return err
	}
	return same([]any{sum, text, day.UTC()}, []any{int64(42), "x", at})
}

func statementsArePrepared(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Prepare(ctx, "twice", "SELECT $1::int * 2::int"); err != nil {
		return err
	}
	for i := int32(0); i < 5; i++ {
		var twice int32
		if err := conn.QueryRow(ctx, "twice", i).Scan(&twice); err != nil {
			return err
		}
		if err := same(twice, 2*i); err != nil {
			return err
		}
	}
	return conn.Deallocate(ctx, "twice")
}

func batchesArePipelined(ctx context.Context, conn *pgx.Conn) error {
	batch := &pgx.Batch{}
	for i := 0; i < 50; i++ {
		batch.Queue("SELECT $1::int + 1", i)
	}
	results := conn.SendBatch(ctx, batch)
	defer results.Close()
	for i := 0; i < 50; i++ {
		var next int
		if err := results.QueryRow().Scan(&next); err != nil {
			return err
		}
		if err := same(next, i+1); err != nil {
			return err
		}
	}
	return results.Close()
}

func rowsAreCollected(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT value AS n, value % 2 = 0 AS even FROM generate_series(1, 10000) AS t(value)")
	if err != nil {
		return err
	}
	type row struct {
		N    int64
		Even bool
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return err
	}
	return same(len(all), 10000)
}

func everyModeOfQueries(ctx context.Context, conn *pgx.Conn) error {
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	for _, mode := range modes {
		var text string
		if err := conn.QueryRow(ctx, "SELECT $1::text || '!'", mode, "x").Scan(&text); err != nil {
			return fmt.Errorf("%v: %w", mode, err)
		}
		if err := same(text, "x!"); err != nil {
			return fmt.Errorf("%v: %w", mode, err)
		}
	}
	return nil
}

func rowsAreCopiedOut(ctx context.Context, conn *pgx.Conn) error {
	var out bytes.Buffer
	tag, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT value FROM generate_series(1, 3) AS t(value)) TO STDOUT")
	if err != nil {
		return err
	}
	return same([]any{out.String(), tag.String()}, []any{"1\n2\n3\n", "COPY 3"})
}

func errorsHaveCodes(ctx context.Context, conn *pgx.Conn) error {
	for sql, wanted := range map[string]string{
		"SELECT * FROM no_such_table": "42P01",
		"SELECT nothing":              "42703",
		"SELEC 1":                     "42601",
		"SELECT 1 / 0":                "22012",
	} {
		_, err := conn.Exec(ctx, sql)
		if err := same(sqlState(err), wanted); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func transactionsEnd(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SELECT 1 / 0"); sqlState(err) != "22012" {
		return err
	}
	if _, err := tx.Exec(ctx, "SELECT 1"); sqlState(err) != "25P02" {
		return fmt.Errorf("a failed transaction goes on: %v", err)
	}
	if err := tx.Rollback(ctx); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	})
}

func contextsCancel(ctx context.Context, conn *pgx.Conn) error {
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err := conn.Exec(short, "SELECT pg_sleep(60)")
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the query ended with %v", err)
	}
	return nil
}

func poolsShareConnections(ctx context.Context, conn *pgx.Conn) error {
	pool, err := pgxpool.NewWithConfig(ctx, func() *pgxpool.Config {
		config, _ := pgxpool.ParseConfig(conn.Config().ConnString() + " pool_max_conns=4")
		return config
	}())
	if err != nil {
		return err
	}
	defer pool.Close()
	ends := make(chan error, 20)
	for i := 0; i < 20; i++ {
		go func(i int) {
			var n int
			err := pool.QueryRow(ctx, "SELECT $1::int", i).Scan(&n)
			if err == nil {
				err = same(n, i)
			}
			ends <- err
		}(i)
	}
	for i := 0; i < 20; i++ {
		if err := <-ends; err != nil {
			return err
		}
	}
	return nil
}

func main() {
	checks := []check{
		{"types are binary", typesAreBinary},
		{"parameters are typed", parametersAreTyped},
		{"statements are prepared", statementsArePrepared},
		{"batches are pipelined", batchesArePipelined},
		{"rows are collected", rowsAreCollected},
		{"every mode of queries", everyModeOfQueries},
		{"rows are copied out", rowsAreCopiedOut},
		{"errors have codes", errorsHaveCodes},
		{"transactions end", transactionsEnd},
		{"contexts cancel", contextsCancel},
		{"pools share connections", poolsShareConnections},
	}
	ctx := context.Background()
	failed := 0
	for _, check := range checks {
		conn, err := pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%s user=sluice dbname=sluice sslmode=disable", os.Args[1]))
		if err == nil {
			err = check.run(ctx, conn)
			_ = conn.Close(ctx)
		}
		if err != nil {
			failed++
			fmt.Fprintf(os.Stderr, "%s: %v\n", check.name, err)
		}
	}
	fmt.Printf("%d ok, %d failed\n", len(checks)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
