-- Everything that the demo keeps in Cassandra goes there through Sluice. Running it twice does no harm.
CREATE CATALOG IF NOT EXISTS cass USING cassandra WITH (contact_points = :'contact_points');
CREATE SCHEMA IF NOT EXISTS cass.demo WITH (replication_factor = 1);

\echo '   TPC-H: orders and lineitem stay in Parquet; customer and supplier go to Cassandra'
\set file :tpch /lineitem.parquet
CREATE EXTERNAL TABLE IF NOT EXISTS lineitem STORED AS PARQUET LOCATION :'file';
\set file :tpch /orders.parquet
CREATE EXTERNAL TABLE IF NOT EXISTS orders STORED AS PARQUET LOCATION :'file';
\set file :tpch /customer.parquet
CREATE TABLE IF NOT EXISTS cass.demo.customer WITH (primary_key = '(c_custkey)') AS SELECT * FROM :'file';
\set file :tpch /supplier.parquet
CREATE TABLE IF NOT EXISTS cass.demo.supplier WITH (primary_key = '(s_suppkey)') AS SELECT * FROM :'file';

\echo '   raw events of thirty days: one million rows of Parquet, a folder for each day'
COPY (
  SELECT n AS event_id,
         (n * 7919 + n / 1000) % 50 + 1 AS campaign_id,
         CASE WHEN (n * 48271) % 211 < 3 THEN 'conversion' WHEN (n * 48271) % 211 < 25 THEN 'click' ELSE 'impression' END AS kind,
         cast((n * 31) % 97 AS decimal(10, 4)) / 1000 AS cost,
         cast(date '2026-11-01' + cast(n % 30 AS int) AS text) AS day
  FROM generate_series(1, 1000000) AS t(n)
) TO :'events' STORED AS PARQUET PARTITIONED BY (day);
CREATE EXTERNAL TABLE IF NOT EXISTS events STORED AS PARQUET PARTITIONED BY (day) LOCATION :'events';

\echo '   campaigns, and a roll-up of each campaign for each of the first 29 days, in Cassandra'
CREATE TABLE IF NOT EXISTS cass.demo.campaigns (
  campaign_id bigint, name text, advertiser text, daily_budget decimal(10, 2), PRIMARY KEY (campaign_id));
INSERT INTO cass.demo.campaigns (campaign_id, name, advertiser, daily_budget)
  SELECT n, 'Campaign ' || n, 'Advertiser ' || chr(cast(64 + (n + 4) / 5 AS int)), cast(50 + n % 7 * 25 AS decimal(10, 2))
  FROM generate_series(1, 50) AS t(n);
CREATE TABLE IF NOT EXISTS cass.demo.campaign_daily (
  campaign_id bigint, day date, impressions bigint, clicks bigint, conversions bigint, spend decimal(14, 4),
  PRIMARY KEY (campaign_id, day));
INSERT INTO cass.demo.campaign_daily (campaign_id, day, impressions, clicks, conversions, spend)
  SELECT campaign_id, cast(day AS date),
         count(*) FILTER (WHERE kind = 'impression'), count(*) FILTER (WHERE kind = 'click'),
         count(*) FILTER (WHERE kind = 'conversion'), sum(cost)
  FROM events WHERE day < '2026-11-30' GROUP BY campaign_id, day;
