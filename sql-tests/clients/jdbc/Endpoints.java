import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;

/**
 * A large result over the JDBC driver for Flight SQL, which fetches its endpoints from executors: no row may be missing,
 * and none be there twice.
 *
 * <p>Usage: java -cp DRIVER.jar Endpoints.java flight PORT LINEITEM_FILE. The last line is "N rows".
 */
public class Endpoints {
    public static void main(String[] arguments) throws Exception {
        // A catalog makes the driver open a session, which settings last for.
        String url = "jdbc:arrow-flight-sql://127.0.0.1:" + arguments[1]
                + "?useEncryption=false&user=sluice&password=x&catalog=sluice";
        String rows = "SELECT l_orderkey, l_linenumber FROM '" + arguments[2] + "' WHERE l_linenumber > ?";
        // Not closed: driver 18.3 closes such a session twice, and fails at the second time.
        Connection connection = DriverManager.getConnection(url);
        try (Statement statement = connection.createStatement()) {
            statement.execute("SET sluice.single_task_max_bytes = 0");
            String[] endpoints = {"executors", "one"};
            long[][] sums = new long[endpoints.length][];
            for (int way = 0; way < endpoints.length; way++) {
                statement.execute("SET flight_endpoints = " + endpoints[way]);
                sums[way] = sums(connection, rows);
            }
            if (sums[0][0] != sums[1][0] || sums[0][1] != sums[1][1]) {
                throw new IllegalStateException("from executors " + sums[0][0] + " rows, from one " + sums[1][0]);
            }
            System.out.println(sums[0][0] + " rows");
        }
        // The driver leaves threads behind.
        System.exit(0);
    }

    /** How many rows there are, and a sum that a row which is missing or there twice would change. */
    private static long[] sums(Connection connection, String sql) throws Exception {
        long count = 0;
        long sum = 0;
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setInt(1, 1);
            try (ResultSet result = statement.executeQuery()) {
                while (result.next()) {
                    count++;
                    sum += result.getLong(1) * 31 + result.getInt(2);
                }
            }
        }
        return new long[] {count, sum};
    }
}
