//! Notices of how far a long query is, for sessions with `SET progress = on`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::job_progress::JobProgress;
use super::query::QueryRecord;
use super::session::Session;

/// What these notices begin with.
pub(crate) const PROGRESS: &str = "progress: ";
/// Time between two looks at a query.
const INTERVAL: Duration = Duration::from_secs(2);

/// Tells the session's client about a query until it has ended.
pub(super) fn follow(session: &Arc<Session>, record: &Arc<QueryRecord>) {
    let (session, record) = (Arc::downgrade(session), Arc::downgrade(record));
    tokio::spawn(async move {
        let mut told = String::new();
        let mut is_page_told = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(text) = look(&session, &record).await else { return };
            if !is_page_told {
                is_page_told = true;
                tell_page(&session, &record);
            }
            if text != told
                && let Some(session) = session.upgrade()
            {
                session.notice(text.clone());
                told = text;
            }
        }
    });
}

/// Tells where the query can be looked at.
fn tell_page(session: &Weak<Session>, record: &Weak<QueryRecord>) {
    if let (Some(session), Some(record)) = (session.upgrade(), record.upgrade())
        && let Some(url) = session.engine().query_url(&record.id)
    {
        session.notice(format!("{PROGRESS}see {url}"));
    }
}

/// Where the query is now; `None` when it has ended.
async fn look(session: &Weak<Session>, record: &Weak<QueryRecord>) -> Option<String> {
    let record = record.upgrade().filter(|record| record.is_running())?;
    if record.is_queued() {
        return Some(format!("{PROGRESS}waits for its turn in queue {}", record.queue_name()));
    }
    let stages = match record.job_id() {
        Some(job_id) => session.upgrade()?.engine().stages(&job_id).await,
        None => Vec::new(),
    };
    Some(match JobProgress::of(&stages) {
        Some(stages) => format!("{PROGRESS}{stages}"),
        None => format!("{PROGRESS}runs for {} s", record.elapsed().as_secs()),
    })
}
