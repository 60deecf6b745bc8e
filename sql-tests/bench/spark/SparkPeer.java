import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/**
 * Spark with its Cassandra connector as a peer of Sluice: one warm process that answers queries, so that its runs can
 * take turns with those of the others.
 *
 * <pre>SparkPeer CONTACT_POINTS SCRATCH_DIR</pre>
 *
 * Queries come on standard input, one a line; Cassandra is the catalog `cass`. Each gets one line of JSON, with the
 * seconds it took and all of its rows, or with an error.
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
            .config("spark.local.dir", arguments[1])
            .config("spark.sql.warehouse.dir", arguments[1])
            // The default of 200 is for clusters; here it would only slow Spark down.
            .config("spark.sql.shuffle.partitions", 2 * Runtime.getRuntime().availableProcessors())
            // Without these there is no direct join, which reads by key what a small table asks for.
            .config("spark.sql.extensions", "com.datastax.spark.connector.CassandraSparkExtensions")
            .config("spark.sql.catalog.cass", "com.datastax.spark.connector.datasource.CassandraCatalog")
            .config("spark.cassandra.connection.host", hosts)
            .config("spark.cassandra.connection.port", first.length > 1 ? first[1] : "9042")
            .config("spark.cassandra.input.fetch.sizeInRows", PAGE_ROWS)
            .getOrCreate();
        spark.sparkContext().setLogLevel("ERROR");
        System.out.println("{\"version\": " + json(spark.version()) + "}");

        BufferedReader queries = new BufferedReader(new InputStreamReader(System.in));
        for (String query = queries.readLine(); query != null; query = queries.readLine()) {
            String answer;
            try {
                answer = timed(spark, query);
            } catch (Exception error) {
                answer = "{\"error\": " + json(error.toString()) + "}";
            }
            System.out.println(answer);
            System.out.flush();
        }
        spark.stop();
    }

    private static String timed(SparkSession spark, String query) {
        long started = System.nanoTime();
        List<Row> rows = spark.sql(query).collectAsList();
        double seconds = (System.nanoTime() - started) / NANOS_PER_SECOND;
        return "{\"seconds\": " + seconds + ", \"rows\": " + rows.stream().map(SparkPeer::json).toList() + "}";
    }

    private static String json(Row row) {
        List<String> cells = new ArrayList<>();
        for (int index = 0; index < row.size(); index++) {
            Object cell = row.get(index);
            // Without an exponent, as the others write it.
            String text = cell instanceof java.math.BigDecimal number ? number.toPlainString() : String.valueOf(cell);
            cells.add(json(text));
        }
        return cells.toString();
    }

    /** A JSON text. */
    private static String json(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char character : text.toCharArray()) {
            if (character == '"' || character == '\\') {
                quoted.append('\\').append(character);
            } else if (character < ' ') {
                quoted.append(String.format("\\u%04x", (int) character));
            } else {
                quoted.append(character);
            }
        }
        return quoted.append('"').toString();
    }
}
