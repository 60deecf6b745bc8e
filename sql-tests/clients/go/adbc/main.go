// ADBC's Flight SQL driver against a running service: queries, types, prepared statements, metadata, partitions, errors,
// cancellation.
//
// Usage: go run . PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	"github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow/go/v16/arrow"
	"github.com/apache/arrow/go/v16/arrow/array"
	"github.com/apache/arrow/go/v16/arrow/memory"
)

type check struct {
	name string
	run  func(ctx context.Context, conn adbc.Connection) error
}

func same(got, wanted any) error {
	if !reflect.DeepEqual(got, wanted) {
		return fmt.Errorf("got %#v, wanted %#v", got, wanted)
	}
	return nil
}

// values are a result's rows, each as its cells' texts.
func values(reader array.RecordReader) ([][]string, error) {
	defer reader.Release()
	rows := [][]string{}
	for reader.Next() {
		record := reader.Record()
		for row := 0; row < int(record.NumRows()); row++ {
			cells := make([]string, record.NumCols())
			for column := range cells {
				cells[column] = record.Column(column).ValueStr(row)
			}
			rows = append(rows, cells)
		}
	}
	return rows, reader.Err()
}

// statementOf is a statement with this text.
func statementOf(conn adbc.Connection, sql string) (adbc.Statement, error) {
	statement, err := conn.NewStatement()
	if err != nil {
		return nil, err
	}
	if err := statement.SetSqlQuery(sql); err != nil {
		statement.Close()
		return nil, err
	}
	return statement, nil
}

func query(ctx context.Context, conn adbc.Connection, sql string) ([][]string, error) {
	statement, err := statementOf(conn, sql)
	if err != nil {
		return nil, err
	}
	defer statement.Close()
	reader, _, err := statement.ExecuteQuery(ctx)
	if err != nil {
		return nil, err
	}
	return values(reader)
}

func aQueryGivesAllRows(ctx context.Context, conn adbc.Connection) error {
	rows, err := query(ctx, conn, "SELECT value FROM generate_series(1, 100000) AS t(value)")
	if err != nil {
		return err
	}
	if err := same(len(rows), 100000); err != nil {
		return err
	}
	rows, err = query(ctx, conn, "SELECT count(*) AS n, sum(value) AS s FROM generate_series(1, 100000) AS t(value)")
	if err != nil {
		return err
	}
	return same(rows, [][]string{{"100000", "5000050000"}})
}

func typesAreArrows(ctx context.Context, conn adbc.Connection) error {
	sql := "SELECT 1::int AS i, 12.34::numeric(10, 2) AS d, 'x' AS t, date '2024-02-29' AS day, NULL::bigint AS nothing"
	statement, err := statementOf(conn, sql)
	if err != nil {
		return err
	}
	defer statement.Close()
	reader, _, err := statement.ExecuteQuery(ctx)
	if err != nil {
		return err
	}
	types := []arrow.Type{}
	for _, field := range reader.Schema().Fields() {
		types = append(types, field.Type.ID())
	}
	rows, err := values(reader)
	if err != nil {
		return err
	}
	if err := same(types, []arrow.Type{arrow.INT32, arrow.DECIMAL128, arrow.STRING, arrow.DATE32, arrow.INT64}); err != nil {
		return err
	}
	return same(rows, [][]string{{"1", "12.34", "x", "2024-02-29", array.NullValueStr}})
}

func aPreparedStatementTakesParameters(ctx context.Context, conn adbc.Connection) error {
	statement, err := statementOf(conn, "SELECT $1 * 2 AS twice")
	if err != nil {
		return err
	}
	defer statement.Close()
	if err := statement.Prepare(ctx); err != nil {
		return err
	}
	for _, number := range []int64{4, 21} {
		builder := array.NewInt64Builder(memory.DefaultAllocator)
		builder.Append(number)
		column := builder.NewArray()
		schema := arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.PrimitiveTypes.Int64}}, nil)
		if err := statement.Bind(ctx, array.NewRecord(schema, []arrow.Array{column}, 1)); err != nil {
			return err
		}
		reader, _, err := statement.ExecuteQuery(ctx)
		if err != nil {
			return err
		}
		rows, err := values(reader)
		if err != nil {
			return err
		}
		if err := same(rows, [][]string{{fmt.Sprint(number * 2)}}); err != nil {
			return err
		}
	}
	return nil
}

func aStatementWithoutRowsRunsOnce(ctx context.Context, conn adbc.Connection) error {
	statement, err := conn.NewStatement()
	if err != nil {
		return err
	}
	defer statement.Close()
	for _, sql := range []string{"CREATE VIEW adbc_go AS SELECT 1 AS one", "DROP VIEW adbc_go"} {
		if err := statement.SetSqlQuery(sql); err != nil {
			return err
		}
		if _, err := statement.ExecuteUpdate(ctx); err != nil {
			return err
		}
	}
	_, err = query(ctx, conn, "SELECT * FROM adbc_go")
	if err == nil {
		return errors.New("a dropped view is still there")
	}
	return nil
}

func anErrorSaysWhatWasWrong(ctx context.Context, conn adbc.Connection) error {
	_, err := query(ctx, conn, "SELECT * FROM no_such_table")
	var told adbc.Error
	if !errors.As(err, &told) || !strings.Contains(told.Msg, "no_such_table") {
		return fmt.Errorf("an unknown table is told as %v", err)
	}
	rows, err := query(ctx, conn, "SELECT 1")
	if err != nil {
		return err
	}
	return same(rows, [][]string{{"1"}})
}

func metadataNamesWhatThereIs(ctx context.Context, conn adbc.Connection) error {
	catalog, schema, table := "sluice", "system", "executors"
	reader, err := conn.GetObjects(ctx, adbc.ObjectDepthColumns, &catalog, &schema, &table, nil, nil)
	if err != nil {
		return err
	}
	rows, err := values(reader)
	if err != nil {
		return err
	}
	if text := fmt.Sprint(rows); len(rows) != 1 || !strings.Contains(text, `"column_name":"host"`) {
		return fmt.Errorf("the objects are %s", text)
	}
	columns, err := conn.GetTableSchema(ctx, &catalog, &schema, table)
	if err != nil {
		return err
	}
	if !columns.HasField("host") {
		return fmt.Errorf("the table has %v", columns)
	}
	if reader, err = conn.GetTableTypes(ctx); err != nil {
		return err
	}
	if rows, err = values(reader); err != nil {
		return err
	}
	if text := fmt.Sprint(rows); !strings.Contains(text, "TABLE") || !strings.Contains(text, "VIEW") {
		return fmt.Errorf("the types of tables are %s", text)
	}
	if reader, err = conn.GetInfo(ctx, []adbc.InfoCode{adbc.InfoVendorName}); err != nil {
		return err
	}
	if rows, err = values(reader); err != nil {
		return err
	}
	if text := fmt.Sprint(rows); !strings.Contains(strings.ToLower(text), "sluice") {
		return fmt.Errorf("the vendor is %s", text)
	}
	return nil
}

func partitionsAreReadOneByOne(ctx context.Context, conn adbc.Connection) error {
	statement, err := statementOf(conn, "SELECT value FROM generate_series(1, 1000) AS t(value)")
	if err != nil {
		return err
	}
	defer statement.Close()
	_, partitions, _, err := statement.ExecutePartitions(ctx)
	if err != nil {
		return err
	}
	if partitions.NumPartitions == 0 {
		return errors.New("a result without a partition")
	}
	count := 0
	for _, partition := range partitions.PartitionIDs {
		reader, err := conn.ReadPartition(ctx, partition)
		if err != nil {
			return err
		}
		rows, err := values(reader)
		if err != nil {
			return err
		}
		count += len(rows)
	}
	return same(count, 1000)
}

const endless = `SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y)
	WHERE (x * 7919 + y) % 1000003 = 1`

func aContextThatEndsStopsItsQuery(ctx context.Context, conn adbc.Connection) error {
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := query(short, conn, endless); err == nil {
		return errors.New("the endless query has ended")
	}
	running := "SELECT count(*) AS n FROM system.queries WHERE state = 'running' AND sql LIKE 'SELECT count(*) FROM gen%1000003 = 1'"
	for {
		rows, err := query(ctx, conn, running)
		if err != nil {
			return err
		}
		if rows[0][0] == "0" {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func run(port string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	driver := flightsql.NewDriver(memory.DefaultAllocator)
	database, err := driver.NewDatabase(map[string]string{adbc.OptionKeyURI: "grpc+tcp://127.0.0.1:" + port})
	if err != nil {
		return err
	}
	defer database.Close()
	conn, err := database.Open(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	checks := []check{
		{"a query gives all rows", aQueryGivesAllRows},
		{"types are Arrow's", typesAreArrows},
		{"a prepared statement takes parameters", aPreparedStatementTakesParameters},
		{"a statement without rows runs once", aStatementWithoutRowsRunsOnce},
		{"an error says what was wrong", anErrorSaysWhatWasWrong},
		{"metadata names what there is", metadataNamesWhatThereIs},
		{"partitions are read one by one", partitionsAreReadOneByOne},
		{"a context that ends stops its query", aContextThatEndsStopsItsQuery},
	}
	for _, check := range checks {
		if err := check.run(ctx, conn); err != nil {
			return fmt.Errorf("%s: %w", check.name, err)
		}
		fmt.Println("ok", check.name)
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . PORT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
