//! The functions that an executor knows.

use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::execution::SessionStateDefaults;

use crate::cassandra::map_functions;

/// DataFusion's functions, those of arrays and maps among them, which Ballista's own registry leaves out, and ours.
pub fn function_registry() -> BallistaFunctionRegistry {
    let mut registry = BallistaFunctionRegistry::default();
    for function in SessionStateDefaults::default_scalar_functions().into_iter().chain(map_functions()) {
        registry.scalar_functions.insert(function.name().to_owned(), function);
    }
    for function in SessionStateDefaults::default_aggregate_functions() {
        registry.aggregate_functions.insert(function.name().to_owned(), function);
    }
    for function in SessionStateDefaults::default_window_functions() {
        registry.window_functions.insert(function.name().to_owned(), function);
    }
    registry
}
