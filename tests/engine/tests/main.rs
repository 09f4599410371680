//! What the engine promises, without a gateway around it.

mod calls_in_flight;
mod cut_streams;
mod documented;
mod output_bounds;
mod session_forms;
mod session_records;
mod token_limits;
mod token_overload;
mod token_promises;
mod usage;
mod uses;
mod window_promises;
mod window_settlements;
