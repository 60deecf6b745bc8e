//! One client's session: settings, transaction state, prepared statements' planning, execution.

