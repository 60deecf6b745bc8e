//! Large types that threads share, told to the compiler before any other.
//!
//! Whether a type can be shared is found from the types in it. For syntax trees and plans, which hold each other in many
//! ways, that takes minutes where it is asked in the middle of something larger, and a moment where it is asked of them.

use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast;

trait Shared: Send + Sync {}

impl Shared for ast::Expr {}
impl Shared for ast::Query {}
impl Shared for ast::Statement {}
impl Shared for Expr {}
impl Shared for LogicalPlan {}
impl Shared for SessionContext {}
