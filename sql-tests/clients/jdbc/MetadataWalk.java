import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.TreeMap;
import java.util.stream.Stream;

/**
 * The 46 calls by which a tool walks through a database over JDBC: what there is, then statements of each kind.
 *
 * <p>Usage: java -cp DRIVER.jar MetadataWalk.java postgresql|flight PORT. The last line is "passed N of 46". With
 * CATALOG SCHEMA TABLE after it, the columns of that table's primary key and of its indexes, in order.
 */
public class MetadataWalk {
    private interface Step {
        boolean run() throws Exception;
    }

    private final boolean isPostgres;
    private int passed;
    private int count;

    private MetadataWalk(boolean isPostgres) {
        this.isPostgres = isPostgres;
    }

    public static void main(String[] arguments) throws Exception {
        boolean isPostgres = arguments[0].equals("postgresql");
        String url = isPostgres
                ? "jdbc:postgresql://127.0.0.1:" + arguments[1] + "/sluice?user=sluice"
                : "jdbc:arrow-flight-sql://127.0.0.1:" + arguments[1]
                        + "?useEncryption=false&user=sluice&password=x&catalog=sluice";
        if (arguments.length > 2) {
            keys(url.replace("/sluice?", "/" + arguments[2] + "?"), arguments[3], arguments[4]);
            return;
        }
        MetadataWalk walk = new MetadataWalk(isPostgres);
        Path folder = Files.createTempDirectory("walk");
        try {
            // Not closed: Flight's driver (18.3) closes a session of a catalog twice, and fails at the second time.
            Connection connection = DriverManager.getConnection(url);
            walk.step("connect", () -> true);
            walk.metadata(connection);
            walk.statements(connection, folder);
        } finally {
            try (Stream<Path> files = Files.walk(folder)) {
                files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            }
        }
        System.out.println("passed " + walk.passed + " of " + walk.count);
        // The Flight driver leaves threads behind.
        System.exit(walk.passed == walk.count ? 0 : 1);
    }

    private static void keys(String url, String schema, String table) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url)) {
            DatabaseMetaData about = connection.getMetaData();
            TreeMap<Integer, String> key = new TreeMap<>();
            try (ResultSet result = about.getPrimaryKeys(null, schema, table)) {
                while (result.next()) {
                    key.put(result.getInt("KEY_SEQ"), result.getString("COLUMN_NAME"));
                }
            }
            List<String> indexes = new ArrayList<>();
            try (ResultSet result = about.getIndexInfo(null, schema, table, false, true)) {
                while (result.next()) {
                    indexes.add(result.getString("INDEX_NAME") + "." + result.getString("COLUMN_NAME"));
                }
            }
            List<String> identifier = column(about.getBestRowIdentifier(null, schema, table, 0, true), "COLUMN_NAME");
            System.out.println(key.values() + " " + indexes + " " + identifier);
        }
    }

    /** A step that must not fail, and must find what it looks for. */
    private void step(String name, Step step) {
        count++;
        try {
            if (!step.run()) {
                throw new IllegalStateException("did not find what it looked for");
            }
            passed++;
        } catch (Exception | Error failure) {
            System.out.println("FAILED " + name + ": " + failure);
        }
    }

    /** All values of a column. */
    private static List<String> column(ResultSet result, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        while (result.next()) {
            values.add(result.getString(name));
        }
        result.close();
        return values;
    }

    private static int rows(ResultSet result) throws SQLException {
        int rows = 0;
        while (result.next()) {
            for (int column = 1; column <= result.getMetaData().getColumnCount(); column++) {
                result.getObject(column);
            }
            rows++;
        }
        result.close();
        return rows;
    }

    private void metadata(Connection connection) throws SQLException {
        DatabaseMetaData about = connection.getMetaData();
        String[] kinds = {"TABLE", "VIEW", "BASE TABLE"};
        step("getCatalogs", () -> column(about.getCatalogs(), "TABLE_CAT").contains("sluice"));
        step("getSchemas", () -> column(about.getSchemas(), "TABLE_SCHEM").contains("system"));
        step("getSchemas by name", () -> column(about.getSchemas(null, "sys%"), "TABLE_SCHEM").contains("system"));
        step("getTables", () -> column(about.getTables(null, null, "%", kinds), "TABLE_NAME").contains("queries"));
        step("getTables by name", () -> rows(about.getTables(null, "system", "quer%", null)) == 1);
        step("getTableTypes", () -> rows(about.getTableTypes()) > 0);
        step("getColumns", () -> column(about.getColumns(null, "system", "queries", "%"), "COLUMN_NAME").contains("sql"));
        step("getColumns by name", () -> rows(about.getColumns(null, "system", "queries", "user_name")) == 1);
        step("getColumns of all", () -> column(about.getColumns(null, null, "%", "%"), "TABLE_NAME").contains("tasks"));
        step("getPrimaryKeys", () -> rows(about.getPrimaryKeys(null, "system", "queries")) == 0);
        step("getImportedKeys", () -> rows(about.getImportedKeys(null, "system", "queries")) == 0);
        step("getExportedKeys", () -> rows(about.getExportedKeys(null, "system", "queries")) == 0);
        step("getCrossReference",
                () -> rows(about.getCrossReference(null, "system", "queries", null, "system", "tasks")) == 0);
        step("getIndexInfo", () -> rows(about.getIndexInfo(null, "system", "queries", false, true)) == 0);
        step("getTypeInfo", () -> rows(about.getTypeInfo()) >= 0);
        step("getFunctions", () -> rows(about.getFunctions(null, null, "%")) >= 0);
        step("getFunctionColumns", () -> rows(about.getFunctionColumns(null, null, "%", "%")) >= 0);
        step("getProcedures", () -> rows(about.getProcedures(null, null, "%")) >= 0);
        step("getProcedureColumns", () -> rows(about.getProcedureColumns(null, null, "%", "%")) >= 0);
        step("getUDTs", () -> rows(about.getUDTs(null, null, "%", null)) >= 0);
        step("getTablePrivileges", () -> rows(about.getTablePrivileges(null, "system", "%")) >= 0);
        step("getColumnPrivileges", () -> rows(about.getColumnPrivileges(null, "system", "queries", "%")) >= 0);
        step("getBestRowIdentifier", () -> rows(about.getBestRowIdentifier(null, "system", "queries", 0, true)) == 0);
        step("getVersionColumns", () -> rows(about.getVersionColumns(null, "system", "queries")) >= 0);
        step("getMaxColumnNameLength", () -> about.getMaxColumnNameLength() >= 0);
        step("getSQLKeywords", () -> about.getSQLKeywords() != null);
        step("getDatabaseProductVersion", () -> !about.getDatabaseProductVersion().isEmpty());
        step("getTransactionIsolation", () -> connection.getTransactionIsolation() >= 0);
        step("getSchema", () -> !isPostgres || connection.getSchema().equals("public"));
        // Flight's driver does not ask for it.
        step("getCatalog", () -> isPostgres ? connection.getCatalog().equals("sluice") : connection.getCatalog() == null);
        step("isValid", () -> connection.isValid(5));
    }

    private void statements(Connection connection, Path folder) throws SQLException {
        Statement statement = connection.createStatement();
        step("a query", () -> rows(statement.executeQuery("SELECT 1 AS n")) == 1);
        step("a parameter", () -> {
            try (PreparedStatement prepared = connection.prepareStatement("SELECT ?::int + 1::int")) {
                prepared.setInt(1, 41);
                ResultSet result = prepared.executeQuery();
                return result.next() && result.getInt(1) == 42;
            }
        });
        step("a statement that is prepared by the server after some runs", () -> {
            int found = 0;
            String sql = "SELECT value FROM generate_series(1, 10) AS t(value) WHERE value < ?::bigint";
            try (PreparedStatement prepared = connection.prepareStatement(sql)) {
                for (int run = 1; run <= 7; run++) {
                    prepared.setLong(1, run);
                    found += rows(prepared.executeQuery());
                }
            }
            return found == 21;
        });
        step("the parameters of a statement", () -> {
            try (PreparedStatement prepared = connection.prepareStatement("SELECT ?::bigint, ?::text")) {
                return prepared.getParameterMetaData().getParameterCount() == 2;
            }
        });
        step("the columns of a result", () -> {
            String sql = "SELECT query_id, length(sql)::bigint AS size FROM system.queries";
            ResultSetMetaData columns = statement.executeQuery(sql).getMetaData();
            return columns.getColumnName(2).equals("size")
                    && columns.getColumnType(2) == Types.BIGINT
                    && columns.getColumnDisplaySize(1) >= 0
                    && columns.isNullable(1) >= 0
                    && !columns.isAutoIncrement(1);
        });
        step("rows in pieces", () -> {
            if (isPostgres) {
                connection.setAutoCommit(false);
            }
            try (Statement pieces = connection.createStatement()) {
                pieces.setFetchSize(100);
                return rows(pieces.executeQuery("SELECT value FROM generate_series(1, 1000) AS t(value)")) == 1000;
            }
        });
        step("a commit", () -> {
            if (isPostgres) {
                connection.commit();
                connection.setAutoCommit(true);
            }
            return connection.getAutoCommit();
        });
        String table = "walk_" + (isPostgres ? "pg_" : "flight_") + ProcessHandle.current().pid();
        step("a table is made", () -> {
            statement.executeUpdate("CREATE EXTERNAL TABLE " + table + " (n BIGINT, t VARCHAR) STORED AS PARQUET LOCATION '"
                    + folder + "/'");
            return rows(connection.getMetaData().getColumns(null, "public", table, "%")) == 2;
        });
        step("a batch", () -> {
            try (PreparedStatement prepared = connection.prepareStatement("INSERT INTO " + table + " VALUES (?, ?)")) {
                for (int row = 1; row <= 3; row++) {
                    prepared.setLong(1, row);
                    prepared.setString(2, "row " + row);
                    prepared.addBatch();
                }
                prepared.executeBatch();
            }
            return rows(statement.executeQuery("SELECT n, t FROM " + table)) == 3;
        });
        step("rows that are changed are counted",
                () -> statement.executeUpdate("INSERT INTO " + table + " VALUES (7, 'u')") == 1);
        step("a table is dropped", () -> {
            statement.executeUpdate("DROP TABLE " + table);
            return rows(connection.getMetaData().getTables(null, "public", table, null)) == 0;
        });
        step("a query that takes too long", () -> {
            try (Statement slow = connection.createStatement()) {
                if (isPostgres) {
                    slow.setQueryTimeout(1);
                } else {
                    // The driver's time-outs are its own and unsupported.
                    slow.executeUpdate("SET statement_timeout = '1s'");
                }
                rows(slow.executeQuery("SELECT pg_sleep(30)"));
                return false;
            } catch (SQLException timeout) {
                try (Statement reset = connection.createStatement()) {
                    reset.executeUpdate("RESET statement_timeout");
                }
                return timeout.getMessage().contains("cancel");
            }
        });
        step("most rows", () -> {
            try (Statement limited = connection.createStatement()) {
                limited.setMaxRows(5);
                return rows(limited.executeQuery("SELECT value FROM generate_series(1, 100) AS t(value)")) == 5;
            }
        });
        step("an array", () -> {
            ResultSet result = statement.executeQuery("SELECT ARRAY[1, 2, 3]");
            result.next();
            Array array = result.getArray(1);
            return ((Object[]) array.getArray()).length == 3;
        });
        statement.close();
    }
}
