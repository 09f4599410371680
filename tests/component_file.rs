//! Components in files, for the gateway's `--component`: any bytes, or a filter that is written by hand.

use std::{fs, path::Path};

use slidegate_tests::gateway_process::{Directory, Gateway};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// A component in a file, for `--component`.
pub(crate) struct Component {
    pub(crate) file: String,
    _directory: Directory,
}

impl Component {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let directory = Directory::new();
        let file = directory.path().join("filter.wasm");
        fs::write(&file, bytes).expect("a temporary file can be written");
        Component { file: file.to_str().expect("a temporary path is text").to_owned(), _directory: directory }
    }

    /// A filter that keeps the contract by hand, in WebAssembly's text format.
    pub(crate) fn of_module(text: &str) -> Self {
        let mut module = wat::parse_str(text).expect("the module is well-formed");
        let mut resolve = Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        let (package, _) = resolve.push_dir(wit).expect("the contract can be read");
        let world = resolve.select_world(&[package], Some("slidegate")).expect("the contract has a world");
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("the world fits");
        let encoder = ComponentEncoder::default().validate(true).module(&module).expect("the module fits the world");
        Component::new(&{ encoder }.encode().expect("a component"))
    }

    /// A gateway with this component.
    pub(crate) fn serve(&self, settings: &str) -> Gateway {
        Gateway::serve_with(settings, &["--component", &self.file])
    }
}
