//! Files that tests read and write beside the sources: plugins, their resources, reports.

pub mod dist;
pub mod plugin_resource;
pub mod plugins;
