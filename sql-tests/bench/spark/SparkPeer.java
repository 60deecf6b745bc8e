import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/**
 * Spark with its Cassandra connector as a peer of Sluice: one warm process that answers commands, so that its runs can
 * take turns with those of the others.
 *
 * <pre>SparkPeer CONTACT_POINTS KEYSPACE CUSTOMER_PARQUET SCRATCH_DIR</pre>
 *
 * Commands come on standard input, one a line; each gets one line of JSON with the seconds it took:
 *
 * <pre>
 * scan           count(*) and the sum of o_totalprice over the whole table orders
 * join           orders with customers in Parquet, by market segment
 * point K1,K2..  reads of whole rows by key, one after another, with the seconds of each
 * </pre>
 *
 * Run as a single source file (java -cp 'jars/*' SparkPeer.java), so that no build is needed.
 */
public final class SparkPeer {
    /** As many rows a page as Sluice and the plain driver ask for; Spark asks for 1,000 unless it is told. */
    private static final int PAGE_ROWS = 5_000;
    private static final double NANOS_PER_SECOND = 1e9;

    public static void main(String[] arguments) throws Exception {
        String[] contactPoints = arguments[0].split(",");
        String hosts = Stream.of(contactPoints).map(point -> point.split(":")[0]).collect(Collectors.joining(","));
        String[] first = contactPoints[0].split(":");
        SparkSession spark = SparkSession.builder()
            .appName("sluice-bench")
            .master("local[*]")
            .config("spark.ui.enabled", false)
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.local.dir", arguments[3])
            .config("spark.sql.warehouse.dir", arguments[3])
            // The default of 200 is for clusters; here it would only slow Spark down.
            .config("spark.sql.shuffle.partitions", 2 * Runtime.getRuntime().availableProcessors())
            .config("spark.cassandra.connection.host", hosts)
            .config("spark.cassandra.connection.port", first.length > 1 ? first[1] : "9042")
            .config("spark.cassandra.input.fetch.sizeInRows", PAGE_ROWS)
            .getOrCreate();
        spark.sparkContext().setLogLevel("ERROR");
        spark.read().format("org.apache.spark.sql.cassandra")
            .option("keyspace", arguments[1]).option("table", "orders").load()
            .createOrReplaceTempView("orders");
        spark.read().parquet(arguments[2]).createOrReplaceTempView("customer");
        System.out.println("{\"version\": \"" + spark.version() + "\"}");

        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String command = commands.readLine(); command != null; command = commands.readLine()) {
            String[] words = command.trim().split(" ", 2);
            System.out.println(switch (words[0]) {
                case "scan" -> timed(spark, "SELECT count(*), sum(o_totalprice) FROM orders");
                case "join" -> timed(spark,
                    "SELECT c_mktsegment, count(*), sum(o_totalprice) FROM orders JOIN customer"
                        + " ON o_custkey = c_custkey GROUP BY c_mktsegment ORDER BY c_mktsegment");
                case "point" -> points(spark, words[1].split(","));
                default -> throw new IllegalArgumentException("unknown command: " + command);
            });
            System.out.flush();
        }
        spark.stop();
    }

    private static String timed(SparkSession spark, String sql) {
        long started = System.nanoTime();
        List<Row> rows = spark.sql(sql).collectAsList();
        double seconds = (System.nanoTime() - started) / NANOS_PER_SECOND;
        return "{\"seconds\": " + seconds + ", \"rows\": " + rows.stream().map(SparkPeer::json).toList() + "}";
    }

    private static String points(SparkSession spark, String[] keys) {
        List<Double> times = new ArrayList<>();
        long rowCount = 0;
        for (String key : keys) {
            long started = System.nanoTime();
            String sql = "SELECT * FROM orders WHERE o_orderkey = " + Long.parseLong(key);
            rowCount += spark.sql(sql).collectAsList().size();
            times.add((System.nanoTime() - started) / NANOS_PER_SECOND);
        }
        return "{\"times\": " + times + ", \"row_count\": " + rowCount + "}";
    }

    /** Cells as JSON texts; market segments and numbers have nothing to escape. */
    private static String json(Row row) {
        List<String> cells = new ArrayList<>();
        for (int index = 0; index < row.size(); index++) {
            Object cell = row.get(index);
            // Without an exponent, as the others write it.
            String text = cell instanceof java.math.BigDecimal number ? number.toPlainString() : String.valueOf(cell);
            cells.add('"' + text + '"');
        }
        return cells.toString();
    }
}
