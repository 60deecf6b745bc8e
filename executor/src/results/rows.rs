//! The rows that a ticket is for.
//!
//! They are read as the client takes them. Files that were sent to their ends are removed: nobody else has a ticket for
//! them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arrow::ipc::reader::StreamReader;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use ballista_core::JobId;
use ballista_core::execution_plans::create_shuffle_path;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::ticket::{ResultTicket, TicketError};
use crate::peer::ClusterSecret;
use crate::portable;
use crate::shuffle::SealError;
use crate::shuffle::seal::{check, remove};

/// Clients that one executor sends rows to at a time; those beyond are served by the coordinator.
const MOST_STREAMS: usize = 64;
/// Larger reads gain nothing.
const BUFFER_BYTES: usize = 256 << 10;

/// The files that clients may have tickets for.
pub struct ResultFiles {
    work_dir: String,
    secret: ClusterSecret,
    streams: Arc<Semaphore>,
}

impl ResultFiles {
    /// Files below `work_dir`, for tickets that were made with `secret`.
    pub fn new(work_dir: String, secret: ClusterSecret) -> Self {
        Self { work_dir, secret, streams: Arc::new(Semaphore::new(MOST_STREAMS)) }
    }

    /// The rows that a ticket is for, in the types that every Arrow client reads.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` for what is no ticket or has expired, `NOT_FOUND` when its rows are no longer here, `DATA_LOSS`
    /// when they are not those that were written, `RESOURCE_EXHAUSTED` when too many are served already.
    pub async fn read(&self, sealed: &[u8]) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let ticket = ResultTicket::open(sealed, &self.secret, SystemTime::now()).map_err(refused)?;
        let place = self.streams.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("the executor sends rows to {MOST_STREAMS} clients, which is the limit"))
        })?;
        let work_dir = self.work_dir.clone();
        let reading = blocking(move || Reading::open(&work_dir, &ticket, place)).await?;
        let schema = reading.schema.clone();
        let batches = futures::stream::try_unfold(reading, |reading| blocking(move || reading.next()));
        let batches = batches.map_err(|status| FlightError::Tonic(Box::new(status)));
        let data = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
        Ok(data
            .map_err(|error| match error {
                FlightError::Tonic(status) => *status,
                other => Status::internal(other.to_string()),
            })
            .boxed())
    }
}

/// What a client is told of a ticket that is worth nothing.
pub fn refused(error: TicketError) -> Status {
    Status::unauthenticated(error.to_string())
}

/// A job's name becomes the name of a folder; it must not lead anywhere else.
fn is_folder_name(job: &str) -> bool {
    let mut parts = Path::new(job).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Reads files away from the threads that serve; a panic over damaged bytes ends this call and nothing else.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(error) => Err(Status::internal(format!("the rows could not be read: {error}"))),
    }
}

/// Files that were checked and opened, so that they can be read to their ends whatever becomes of their names.
struct Reading {
    schema: SchemaRef,
    readers: VecDeque<StreamReader<BufReader<File>>>,
    paths: Vec<PathBuf>,
    _place: OwnedSemaphorePermit,
}

impl Reading {
    fn open(work_dir: &str, ticket: &ResultTicket, place: OwnedSemaphorePermit) -> Result<Self, Status> {
        if !is_folder_name(&ticket.job) {
            return Err(Status::invalid_argument("that is no job"));
        }
        let job = JobId::from(ticket.job.clone());
        let (mut readers, mut paths) = (VecDeque::new(), Vec::new());
        let mut schema: Option<SchemaRef> = None;
        for part in &ticket.parts {
            let path = create_shuffle_path(work_dir, &job, part.stage, part.partition, part.file, false)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let reader = open(&path)?;
            let found = portable::schema(reader.schema().as_ref());
            if schema.get_or_insert_with(|| found.clone()) != &found {
                return Err(Status::internal("the parts of the result have different columns"));
            }
            readers.push_back(reader);
            paths.push(path);
        }
        let schema = schema.ok_or_else(|| Status::invalid_argument("the ticket is for nothing"))?;
        Ok(Self { schema, readers, paths, _place: place })
    }

    /// The next rows and what is left; `None` when all were read, upon which the files are gone.
    fn next(mut self) -> Result<Option<(RecordBatch, Self)>, Status> {
        while let Some(reader) = self.readers.front_mut() {
            match reader.next() {
                Some(Ok(batch)) => {
                    let batch = portable::batch(&batch, &self.schema).map_err(unreadable)?;
                    return Ok(Some((batch, self)));
                }
                Some(Err(error)) => return Err(unreadable(error)),
                None => drop(self.readers.pop_front()),
            }
        }
        for path in &self.paths {
            if let Err(error) = remove(path) {
                tracing::debug!(%error, "what was sent stays until its job's files are removed");
            }
        }
        Ok(None)
    }
}

fn open(path: &Path) -> Result<StreamReader<BufReader<File>>, Status> {
    check(path, None).map_err(|error| match error {
        SealError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Status::not_found("these rows have been fetched already, or are no longer kept: run the statement again")
        }
        error => {
            tracing::error!(%error, "it is not sent");
            Status::data_loss("the rows were damaged on the executor's disk: run the statement again")
        }
    })?;
    let file = File::open(path).map_err(unreadable)?;
    StreamReader::try_new(BufReader::with_capacity(BUFFER_BYTES, file), None).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("the rows could not be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use arrow::ipc::writer::StreamWriter;
    use arrow_flight::decode::FlightRecordBatchStream;
    use datafusion::arrow::array::{ArrayRef, AsArray, StringViewArray};
    use datafusion::arrow::datatypes::DataType;

    use super::super::ticket::ResultPart;
    use super::*;
    use crate::shuffle::seal::seal;

    /// A job's folder with one row in each of two partitions.
    fn finished_job(work_dir: &Path) -> ResultTicket {
        let parts: Vec<ResultPart> =
            (0..2).map(|partition| ResultPart { stage: 3, partition, file: Some(9) }).collect();
        for part in &parts {
            let path = path_of(work_dir, part);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("is made");
            let text: ArrayRef = Arc::new(StringViewArray::from(vec![format!("row {}", part.partition)]));
            let batch = RecordBatch::try_from_iter([("text", text)]).expect("is a batch");
            let file = File::create(&path).expect("is created");
            let mut writer = StreamWriter::try_new(file, batch.schema_ref()).expect("begins");
            writer.write(&batch).and_then(|()| writer.finish()).expect("is written");
            seal(&path).expect("is sealed");
        }
        let soon = SystemTime::now() + Duration::from_secs(60);
        let expires_ms = soon.duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        ResultTicket { query: "q".to_owned(), user: "ann".to_owned(), job: "job".to_owned(), expires_ms, parts }
    }

    fn path_of(work_dir: &Path, part: &ResultPart) -> PathBuf {
        create_shuffle_path(work_dir, &JobId::from("job".to_owned()), part.stage, part.partition, part.file, false)
            .expect("is a path")
    }

    fn results(work_dir: &Path) -> (ResultFiles, ClusterSecret) {
        let secret = ClusterSecret::random().expect("random numbers");
        (ResultFiles::new(work_dir.to_string_lossy().into_owned(), secret.clone()), secret)
    }

    async fn code(results: &ResultFiles, sealed: &[u8]) -> tonic::Code {
        results.read(sealed).await.err().map_or(tonic::Code::Ok, |status| status.code())
    }

    #[tokio::test]
    async fn rows_come_once_in_types_that_every_client_reads() {
        let dir = tempfile::tempdir().expect("a directory");
        let ticket = finished_job(dir.path());
        let (results, secret) = results(dir.path());
        let sealed = ticket.seal(&secret).expect("is sealed");
        let data = results.read(&sealed).await.expect("is read").map_err(|status| FlightError::Tonic(Box::new(status)));
        let batches: Vec<RecordBatch> =
            FlightRecordBatchStream::new_from_flight_data(data).try_collect().await.expect("comes whole");
        let texts: Vec<&str> =
            batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
        assert_eq!(texts, ["row 0", "row 1"]);
        assert!(batches.iter().all(|batch| batch.schema().field(0).data_type() == &DataType::Utf8));
        assert!(ticket.parts.iter().all(|part| !path_of(dir.path(), part).exists()), "what was sent is gone");
        assert_eq!(code(&results, &sealed).await, tonic::Code::NotFound, "the ticket is used up");
    }

    #[tokio::test]
    async fn what_is_not_read_to_its_end_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let ticket = finished_job(dir.path());
        let (results, secret) = results(dir.path());
        let sealed = ticket.seal(&secret).expect("is sealed");
        let mut data = results.read(&sealed).await.expect("is read");
        data.next().await.expect("has a schema").expect("comes");
        drop(data);
        assert_eq!(code(&results, &sealed).await, tonic::Code::Ok);
    }

    #[tokio::test]
    async fn tickets_that_are_forged_expired_or_lead_elsewhere_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let ticket = finished_job(dir.path());
        let (results, secret) = results(dir.path());
        let other = ClusterSecret::random().expect("random numbers");
        let forged = ticket.seal(&other).expect("is sealed");
        assert_eq!(code(&results, &forged).await, tonic::Code::Unauthenticated);
        let expired = ResultTicket { expires_ms: 1, ..ticket.clone() }.seal(&secret).expect("is sealed");
        assert_eq!(code(&results, &expired).await, tonic::Code::Unauthenticated);
        for job in ["..", "a/b", "/etc", ""] {
            let elsewhere = ResultTicket { job: job.to_owned(), ..ticket.clone() }.seal(&secret).expect("is sealed");
            assert_eq!(code(&results, &elsewhere).await, tonic::Code::InvalidArgument, "{job}");
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_sent() {
        let dir = tempfile::tempdir().expect("a directory");
        let ticket = finished_job(dir.path());
        let (results, secret) = results(dir.path());
        let path = path_of(dir.path(), &ticket.parts[1]);
        let mut bytes = std::fs::read(&path).expect("is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&path, bytes).expect("is written");
        let sealed = ticket.seal(&secret).expect("is sealed");
        assert_eq!(code(&results, &sealed).await, tonic::Code::DataLoss);
    }
}
