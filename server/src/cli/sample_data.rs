//! `sluice sample-data`: TPC-H as Parquet, one file per table.

use std::fs::File;
use std::path::Path;

use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator, RegionArrow,
    SupplierArrow,
};

use super::args::SampleDataArgs;

/// Rows of a row group: small enough that a scale factor of 0.1 already has several to share out.
const ROW_GROUP_ROWS: usize = 131_072;

/// Writes the eight tables.
pub fn run(args: &SampleDataArgs) -> Result<(), String> {
    let factor = args.scale_factor;
    if !(factor > 0.0 && factor.is_finite()) {
        return Err(format!("a scale factor of {factor} is not a positive number"));
    }
    std::fs::create_dir_all(&args.output_dir)
        .map_err(|error| format!("cannot create {}: {error}", args.output_dir.display()))?;
    let dir = &args.output_dir;
    write(dir, "region", RegionArrow::new(RegionGenerator::new(factor, 1, 1)))?;
    write(dir, "nation", NationArrow::new(NationGenerator::new(factor, 1, 1)))?;
    write(dir, "supplier", SupplierArrow::new(SupplierGenerator::new(factor, 1, 1)))?;
    write(dir, "customer", CustomerArrow::new(CustomerGenerator::new(factor, 1, 1)))?;
    write(dir, "part", PartArrow::new(PartGenerator::new(factor, 1, 1)))?;
    write(dir, "partsupp", PartSuppArrow::new(PartSuppGenerator::new(factor, 1, 1)))?;
    write(dir, "orders", OrderArrow::new(OrderGenerator::new(factor, 1, 1)))?;
    write(dir, "lineitem", LineItemArrow::new(LineItemGenerator::new(factor, 1, 1)))
}

/// Writes under another name first, so that a file of the right name is always a whole one.
fn write(dir: &Path, table: &str, batches: impl RecordBatchIterator) -> Result<(), String> {
    let path = dir.join(format!("{table}.parquet"));
    let temporary = dir.join(format!(".{table}.parquet.new"));
    let failed = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
    let level = ZstdLevel::try_new(1).map_err(|error| failed(&error))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let file = File::create(&temporary).map_err(|error| failed(&error))?;
    // The generator makes views over strings; without Arrow's own schema in the file, readers see plain strings.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer =
        ArrowWriter::try_new_with_options(file, batches.schema().clone(), options).map_err(|error| failed(&error))?;
    let mut rows = 0;
    for batch in batches {
        rows += batch.num_rows();
        writer.write(&batch).map_err(|error| failed(&error))?;
    }
    writer.close().map_err(|error| failed(&error))?;
    std::fs::rename(&temporary, &path).map_err(|error| failed(&error))?;
    println!("{rows:>12} rows  {}", path.display());
    Ok(())
}
