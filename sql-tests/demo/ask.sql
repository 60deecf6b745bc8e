-- Which advertisers' clicks on the last day differ from their usual day? The raw events of that day are in Parquet;
-- who runs a campaign, and its roll-ups of the days before, are in Cassandra.
\timing on
WITH last_day AS (
  SELECT campaign_id,
         count(*) FILTER (WHERE kind = 'impression') AS impressions,
         count(*) FILTER (WHERE kind = 'click') AS clicks,
         sum(cost) AS spend
  FROM events WHERE day = '2026-11-30' GROUP BY campaign_id
), usual AS (
  SELECT campaign_id, avg(clicks) AS clicks FROM cass.demo.campaign_daily GROUP BY campaign_id
)
SELECT c.advertiser, count(*) AS campaigns, sum(l.impressions) AS impressions, sum(l.clicks) AS clicks,
       round(sum(u.clicks), 1) AS usual_clicks, round(sum(l.spend), 2) AS spend, sum(c.daily_budget) AS budget
FROM last_day l
JOIN cass.demo.campaigns c ON c.campaign_id = l.campaign_id
JOIN usual u ON u.campaign_id = l.campaign_id
GROUP BY c.advertiser
ORDER BY clicks DESC, c.advertiser
LIMIT 10;
\timing off

\echo 'The same, cut into stages that the executors ran:'
SET sluice.single_task_max_bytes = 0;
EXPLAIN ANALYZE
SELECT c.advertiser, e.kind, count(*) AS events, sum(e.cost) AS spend
FROM events e JOIN cass.demo.campaigns c ON c.campaign_id = e.campaign_id
GROUP BY c.advertiser, e.kind;
