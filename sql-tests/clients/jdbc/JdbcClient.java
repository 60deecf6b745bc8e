import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;

/**
 * A JDBC driver against a running service: what tools ask of the metadata, and statements of all kinds.
 *
 * <p>Usage: java -cp DRIVER.jar JdbcClient.java postgresql|flight PORT. The last line is "N ok, M failed".
 */
public class JdbcClient {
    private static final String ENDLESS =
            "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y)"
                    + " WHERE (x * 7919 + y) % 1000003 = 1";

    private interface Step {
        Object run() throws Exception;
    }

    private final Connection connection;
    private int passed;
    private int failed;

    private JdbcClient(Connection connection) {
        this.connection = connection;
    }

    public static void main(String[] arguments) throws Exception {
        boolean isPostgres = arguments[0].equals("postgresql");
        String port = arguments[1];
        String url = isPostgres
                ? "jdbc:postgresql://127.0.0.1:" + port + "/sluice?user=sluice"
                : "jdbc:arrow-flight-sql://127.0.0.1:" + port + "?useEncryption=false&user=sluice&password=x";
        JdbcClient client;
        try (Connection connection = DriverManager.getConnection(url)) {
            client = new JdbcClient(connection);
            client.metadata();
            client.statements();
            if (isPostgres) {
                client.onlyPostgres();
            } else {
                client.onlyFlight(url);
            }
        }
        System.out.println(client.passed + " ok, " + client.failed + " failed");
        // The Flight driver leaves threads behind.
        System.exit(client.failed == 0 ? 0 : 1);
    }

    /** A step that must not fail, and must give what is wanted unless that is null. */
    private void step(String name, Object wanted, Step step) {
        try {
            Object found = step.run();
            if (wanted != null && !wanted.toString().equals(String.valueOf(found))) {
                throw new IllegalStateException("gave " + found + ", wanted " + wanted);
            }
            passed++;
        } catch (Exception | Error failure) {
            failed++;
            System.out.println("FAILED " + name + ": " + failure);
        }
    }

    private static List<List<Object>> rows(ResultSet result) throws SQLException {
        List<List<Object>> rows = new ArrayList<>();
        int columns = result.getMetaData().getColumnCount();
        while (result.next()) {
            List<Object> row = new ArrayList<>();
            for (int column = 1; column <= columns; column++) {
                row.add(result.getObject(column));
            }
            rows.add(row);
        }
        result.close();
        return rows;
    }

    private List<List<Object>> query(String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return rows(statement.executeQuery(sql));
        }
    }

    /** Whether a column of a result has a value. */
    private static boolean has(ResultSet result, String column, String value) throws SQLException {
        TreeSet<String> values = new TreeSet<>();
        while (result.next()) {
            values.add(String.valueOf(result.getString(column)));
        }
        result.close();
        if (!values.contains(value)) {
            throw new IllegalStateException(value + " is not in " + values);
        }
        return true;
    }

    private void metadata() throws SQLException {
        DatabaseMetaData about = connection.getMetaData();
        step("getCatalogs", null, () -> has(about.getCatalogs(), "TABLE_CAT", "sluice"));
        step("getSchemas", null, () -> has(about.getSchemas(), "TABLE_SCHEM", "system"));
        step("getSchemas by name", null, () -> has(about.getSchemas(null, "sys%"), "TABLE_SCHEM", "system"));
        step("getTableTypes", null, () -> rows(about.getTableTypes()).size());
        step("getTables", null, () -> has(about.getTables(null, null, "%", null), "TABLE_NAME", "queries"));
        step("getTables by name", null, () -> has(about.getTables(null, "system", "que%", null), "TABLE_NAME", "queries"));
        step("getColumns", null, () -> has(about.getColumns(null, "system", "queries", "%"), "COLUMN_NAME", "sql"));
        step("getColumns of all", null, () -> has(about.getColumns(null, "system", "%", "%"), "TABLE_NAME", "tasks"));
        step("getPrimaryKeys", "[]", () -> rows(about.getPrimaryKeys(null, "system", "queries")));
        step("getImportedKeys", "[]", () -> rows(about.getImportedKeys(null, "system", "queries")));
        step("getExportedKeys", "[]", () -> rows(about.getExportedKeys(null, "system", "queries")));
        step("getCrossReference", "[]",
                () -> rows(about.getCrossReference(null, "system", "queries", null, "system", "queries")));
        step("getIndexInfo", "[]", () -> rows(about.getIndexInfo(null, "system", "queries", false, true)));
        step("getTypeInfo", null, () -> rows(about.getTypeInfo()).size());
        step("getProcedures", null, () -> rows(about.getProcedures(null, null, "%")).size());
        step("getFunctions", null, () -> rows(about.getFunctions(null, null, "%")).size());
        step("getFunctionColumns", null, () -> rows(about.getFunctionColumns(null, null, "%", "%")).size());
        step("getUDTs", null, () -> rows(about.getUDTs(null, null, "%", null)).size());
        step("getTablePrivileges", null, () -> rows(about.getTablePrivileges(null, "system", "%")).size());
        step("getColumnPrivileges", null, () -> rows(about.getColumnPrivileges(null, "system", "queries", "%")).size());
        step("getBestRowIdentifier", "[]", () -> rows(about.getBestRowIdentifier(null, "system", "queries", 0, true)));
        step("getVersionColumns", null, () -> rows(about.getVersionColumns(null, "system", "queries")).size());
        step("getSQLKeywords", null, about::getSQLKeywords);
        step("getNumericFunctions", null, about::getNumericFunctions);
        step("getMaxColumnNameLength", null, about::getMaxColumnNameLength);
        step("getMaxStatements", null, about::getMaxStatements);
        step("supportsTransactions", null, about::supportsTransactions);
        step("getDatabaseProductVersion", null, about::getDatabaseProductVersion);
        step("getClientInfo", null, connection::getClientInfo);
        step("getSchema", null, connection::getSchema);
        step("getCatalog", null, connection::getCatalog);
        step("getTransactionIsolation", null, connection::getTransactionIsolation);
        step("isValid", true, () -> connection.isValid(5));
    }

    private void statements() {
        step("values", "[[1, a, true, 2024-02-29, null]]",
                () -> query("SELECT 1, 'a', true, date '2024-02-29', CAST(NULL AS text)"));
        step("a prepared statement", "[[42, x]]", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::int + 1::int, ?::text")) {
                statement.setInt(1, 41);
                statement.setString(2, "x");
                return rows(statement.executeQuery());
            }
        });
        step("parameters of many types", "[[2024-02-29, 2024-02-29 12:00:00.0, true, 2.5]]", () -> {
            String sql = "SELECT ?::date, ?::timestamp, ?::boolean, ?::double precision";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                statement.setDate(1, Date.valueOf("2024-02-29"));
                statement.setTimestamp(2, Timestamp.valueOf("2024-02-29 12:00:00"));
                statement.setBoolean(3, true);
                statement.setDouble(4, 2.5);
                return rows(statement.executeQuery());
            }
        });
        step("a prepared statement that runs often", 380, () -> {
            long sum = 0;
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::bigint * 2")) {
                for (int number = 0; number < 20; number++) {
                    statement.setLong(1, number);
                    try (ResultSet result = statement.executeQuery()) {
                        result.next();
                        sum += result.getLong(1);
                    }
                }
            }
            return sum;
        });
        step("the columns of a statement", "state VARCHAR", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT state FROM system.queries")) {
                var columns = statement.getMetaData();
                String type = columns.getColumnTypeName(1).equals("text") ? "VARCHAR" : columns.getColumnTypeName(1);
                return columns.getColumnName(1) + " " + type;
            }
        });
        step("rows up to a limit", 5, () -> {
            try (Statement statement = connection.createStatement()) {
                statement.setMaxRows(5);
                return rows(statement.executeQuery("SELECT value FROM generate_series(1, 1000) AS t(value)")).size();
            }
        });
        step("a large result", 100_000, () -> query("SELECT value FROM generate_series(1, 100000) AS t(value)").size());
        step("an error", null, () -> {
            try {
                query("SELECT * FROM no_such_table");
            } catch (SQLException error) {
                return error.getMessage().contains("no_such_table") ? true : fail(error);
            }
            throw new IllegalStateException("there was none");
        });
        step("what comes after an error", "[[1]]", () -> query("SELECT 1"));
    }

    private static Object fail(SQLException error) throws SQLException {
        throw error;
    }

    private void onlyFlight(String url) {
        step("a catalog in the URL gives a session", "[[sluice]] [[Asia/Tokyo]]", () -> {
            Connection other = DriverManager.getConnection(url + "&catalog=sluice");
            JdbcClient client = new JdbcClient(other);
            try (Statement statement = other.createStatement()) {
                statement.executeUpdate("SET timezone = 'Asia/Tokyo'");
            }
            String answer = client.query("SELECT current_database()") + " " + client.query("SHOW timezone");
            try {
                other.close();
            } catch (SQLException failure) {
                // Driver 18.3 closes such a session once more, when its channel is shut down already.
                if (!failure.getMessage().contains("Channel shutdown invoked")) {
                    throw failure;
                }
            }
            return answer;
        });
        step("a statement without a session", "[[UTC]]", () -> query("SHOW timezone"));
        step("a catalog that is not there", true, () -> {
            try (Connection other = DriverManager.getConnection(url + "&catalog=nowhere")) {
                return false;
            } catch (SQLException refused) {
                return refused.getMessage().contains("nowhere");
            }
        });
    }

    private void onlyPostgres() {
        step("numeric", "[[1.50]]", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::numeric(10, 2)")) {
                statement.setBigDecimal(1, new BigDecimal("1.50"));
                return rows(statement.executeQuery());
            }
        });
        step("an array", "[a, b]", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::text[]")) {
                statement.setArray(1, connection.createArrayOf("text", new String[] {"a", "b"}));
                try (ResultSet result = statement.executeQuery()) {
                    result.next();
                    return List.of((Object[]) result.getArray(1).getArray());
                }
            }
        });
        step("java.time", "2024-02-29", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::date")) {
                statement.setObject(1, LocalDate.of(2024, 2, 29));
                try (ResultSet result = statement.executeQuery()) {
                    result.next();
                    return result.getObject(1, LocalDate.class);
                }
            }
        });
        step("a result that is fetched in pieces", 1000, () -> {
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(100);
                try (ResultSet result =
                        statement.executeQuery("SELECT value FROM generate_series(1, 1000000000) AS t(value)")) {
                    int count = 0;
                    while (count < 1000 && result.next()) {
                        count++;
                    }
                    return count;
                }
            } finally {
                connection.commit();
                connection.setAutoCommit(true);
            }
        });
        step("several statements", "[[2]]", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.execute("SELECT 1; SELECT 2");
                statement.getMoreResults();
                return rows(statement.getResultSet());
            }
        });
        step("a savepoint", "[[3]]", () -> {
            connection.setAutoCommit(false);
            try {
                Savepoint savepoint = connection.setSavepoint();
                try {
                    query("SELECT * FROM no_such_table");
                } catch (SQLException wanted) {
                    connection.rollback(savepoint);
                }
                return query("SELECT 3");
            } finally {
                connection.commit();
                connection.setAutoCommit(true);
            }
        });
        step("a timeout", "57014", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery(ENDLESS);
            } catch (SQLException timeout) {
                return timeout.getSQLState();
            }
            throw new IllegalStateException("there was none");
        });
        step("escapes", "[[A, 2024-02-29]]", () -> query("SELECT {fn upper('a')}, {d '2024-02-29'}"));
        step("the state of an error", "42P01", () -> {
            try {
                query("SELECT * FROM no_such_table");
            } catch (SQLException error) {
                return error.getSQLState();
            }
            throw new IllegalStateException("there was none");
        });
    }
}
