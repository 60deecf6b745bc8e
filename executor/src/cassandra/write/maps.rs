//! `map_concat` and `map_except`: the functions in which an `UPDATE` says what is put into a map and taken out of it.
//!
//! DataFusion has none of that kind. In a query they work on maps as any function does.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, MapArray, MutableArrayData, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::utils::take_function_args;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// The functions, for a session's registry.
pub fn map_functions() -> Vec<Arc<ScalarUDF>> {
    [MapChange::Concat, MapChange::Except]
        .into_iter()
        .map(|change| Arc::new(ScalarUDF::new_from_impl(MapFunction { change, signature: signature() })))
        .collect()
}

fn signature() -> Signature {
    Signature::user_defined(Volatility::Immutable)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum MapChange {
    /// `map_concat(map, other)`: the entries of both; where both have a key, the other's.
    Concat,
    /// `map_except(map, keys)`: the entries whose keys are not in an array.
    Except,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MapFunction {
    change: MapChange,
    signature: Signature,
}

impl ScalarUDFImpl for MapFunction {
    fn name(&self) -> &str {
        match self.change {
            MapChange::Concat => "map_concat",
            MapChange::Except => "map_except",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [map, _] = take_function_args(self.name(), arg_types)?;
        Ok(map.clone())
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [map, other] = take_function_args(self.name(), arg_types)?;
        match (self.change, map, other) {
            (MapChange::Concat, DataType::Map(..), DataType::Map(..)) => Ok(vec![map.clone(), map.clone()]),
            (MapChange::Except, DataType::Map(entries, _), DataType::List(_) | DataType::LargeList(_)) => {
                let DataType::Struct(fields) = entries.data_type() else { return plan_err!("a map without entries") };
                let Some(key) = fields.first() else { return plan_err!("a map without keys") };
                let keys = DataType::List(Arc::new(Field::new_list_field(key.data_type().clone(), true)));
                Ok(vec![map.clone(), keys])
            }
            (MapChange::Concat, ..) => plan_err!("map_concat takes two maps, not {map} and {other}"),
            (MapChange::Except, ..) => plan_err!("map_except takes a map and an array of keys, not {map} and {other}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [map, other] = take_function_args(self.name(), arrays)?;
        let Some(map) = map.as_map_opt() else { return exec_err!("{} takes a map", self.name()) };
        let changed = match self.change {
            MapChange::Concat => {
                let other = cast(&other, map.data_type())?;
                let other = other.as_map();
                changed(map, other.keys(), other.offsets(), other.nulls(), Some(other))
            }
            MapChange::Except => {
                let keys = DataType::List(Arc::new(Field::new_list_field(map.key_type().clone(), true)));
                let keys = cast(&other, &keys)?;
                let keys = keys.as_list::<i32>();
                changed(map, keys.values(), keys.offsets(), keys.nulls(), None)
            }
        };
        Ok(ColumnarValue::Array(changed?))
    }
}

/// Each map without the keys of its row, and with the entries of `added` behind.
fn changed(
    map: &MapArray,
    taken: &ArrayRef,
    taken_offsets: &OffsetBuffer<i32>,
    taken_nulls: Option<&NullBuffer>,
    added: Option<&MapArray>,
) -> Result<ArrayRef> {
    let converter = RowConverter::new(vec![SortField::new(map.key_type().clone())])?;
    let keys = converter.convert_columns(&[map.keys().clone()])?;
    let taken = converter.convert_columns(std::slice::from_ref(taken))?;
    let entries = map.entries().to_data();
    let added_entries = added.map(|added| added.entries().to_data());
    let sources = std::iter::once(&entries).chain(&added_entries).collect();
    let mut out = MutableArrayData::new(sources, false, map.entries().len());
    let nulls = NullBuffer::union(map.nulls(), taken_nulls);
    let mut lengths = Vec::with_capacity(map.len());
    for row in 0..map.len() {
        let before = out.len();
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            let span = |offsets: &OffsetBuffer<i32>| offsets[row] as usize..offsets[row + 1] as usize;
            let gone: HashSet<&[u8]> = span(taken_offsets).map(|place| taken.row(place).data()).collect();
            for place in span(map.offsets()).filter(|place| !gone.contains(keys.row(*place).data())) {
                out.try_extend(0, place, place + 1)?;
            }
            if added.is_some() {
                let span = span(taken_offsets);
                out.try_extend(1, span.start, span.end)?;
            }
        }
        lengths.push(out.len() - before);
    }
    let DataType::Map(field, is_sorted) = map.data_type() else { return exec_err!("not a map") };
    let entries = StructArray::from(out.freeze());
    Ok(Arc::new(MapArray::try_new(field.clone(), OffsetBuffer::from_lengths(lengths), entries, nulls, *is_sorted)?))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    async fn shown(sql: &str) -> String {
        let context = SessionContext::new();
        super::map_functions().into_iter().for_each(|function| context.register_udf(function.as_ref().clone()));
        let batches = context.sql(sql).await.expect("plans").collect().await.expect("runs");
        let column = batches[0].column(0);
        datafusion::arrow::util::display::array_value_to_string(column, 0).expect("is shown")
    }

    #[tokio::test]
    async fn entries_are_put_in_and_taken_out() {
        let sql = "SELECT map_concat(map(['a', 'b'], [1, 2]), map(['b', 'c'], [3, 4]))";
        assert_eq!(shown(sql).await, "{a: 1, b: 3, c: 4}");
        assert_eq!(shown("SELECT map_except(map(['a', 'b'], [1, 2]), ['b', 'x'])").await, "{a: 1}");
    }
}
