//! Resources of Kubernetes in a file: one, several documents, or lists of them, as `kubectl get -o yaml` prints them.

mod document;

use serde_json::Value;

use crate::settings::Mistake;
use crate::settings::document::text;
use crate::settings::yaml::{self, Schema};

pub(crate) use self::document::{PluginDocument, is_set};

/// A resource as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resource {
    pub(crate) value: Value,
}

/// The resources in the bytes of a file; none if it is none of Kubernetes' files.
///
/// # Errors
/// It looks like one, and cannot be read.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Vec<Resource>>, Mistake> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(None) };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !(text.contains("apiVersion") && text.contains("kind")) {
        return Ok(None);
    }
    let documents = match serde_json::from_str(text) {
        Ok(document) => vec![document],
        Err(_) => yaml::read(text, Schema::Kubernetes).map_err(|reason| Mistake::new("", reason))?,
    };
    let is_resource = |document: &Value| document.get("apiVersion").is_some() && document.get("kind").is_some();
    if !documents.iter().any(is_resource) {
        return Ok(None);
    }
    Ok(Some(documents.into_iter().filter(|document| !document.is_null()).flat_map(listed).map(|value| Resource { value }).collect()))
}

/// Why there is no resource in the bytes of a file.
pub(crate) fn why_none(bytes: &[u8]) -> Mistake {
    let none = "holds no resource of Kubernetes: expected one with `apiVersion` and `kind`";
    match text(bytes).map(|text| yaml::read(text, Schema::Kubernetes)) {
        Err(mistake) => mistake,
        Ok(Err(reason)) => Mistake::new("", reason),
        Ok(Ok(_)) => Mistake::new("", none),
    }
}

/// What a list holds, also in lists of lists; anything else is one.
fn listed(document: Value) -> Vec<Value> {
    let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut fields) if is_list => match fields.remove("items") {
            Some(Value::Array(items)) => items.into_iter().flat_map(listed).collect(),
            _ => Vec::new(),
        },
        other => vec![other],
    }
}

impl Resource {
    /// How messages call it, as in `WasmPlugin higress-system/limits`.
    pub(crate) fn name(&self) -> String {
        let metadata = |field: &str| self.value.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
        let kind = self.value.get("kind").and_then(Value::as_str).unwrap_or("something without kind");
        let name = metadata("name").unwrap_or("(no name)");
        let name = metadata("namespace").map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
        crate::settings::one_line(&format!("{kind} {name}"))
    }

    /// The specification of a plugin; none if the resource is something else.
    pub(crate) fn plugin(&self) -> Option<&Value> {
        let is_plugin = self.value.get("kind").and_then(Value::as_str) == Some("WasmPlugin");
        self.value.get("spec").filter(|spec| is_plugin && spec.is_object())
    }

    /// Whether this is a plugin named so, without the object that specifies it.
    pub(crate) fn is_hollow_plugin_named(&self, name: &str) -> bool {
        let is_plugin = self.value.get("kind").and_then(Value::as_str) == Some("WasmPlugin");
        let named = self.value.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
        is_plugin && self.plugin().is_none() && named.is_some_and(|named| named.contains(name))
    }

    /// Whether the plugin's image, or the plugin itself, is named so.
    pub(crate) fn is_plugin_named(&self, name: &str) -> bool {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(spec) = self.plugin() else { return false };
        let metadata = self.value.get("metadata").and_then(|metadata| metadata.get("name"));
        [text(spec.get("url")), text(spec.get("pluginName")), text(metadata)].iter().any(|text| text.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<Vec<String>> {
        read(text.as_bytes()).unwrap().map(|resources| resources.iter().map(Resource::name).collect())
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {kind: WasmPlugin, apiVersion: a/v1, metadata: {name: one, namespace: n}, spec: {}}\n\
                    - {kind: ServiceList, apiVersion: v1, items: [{kind: Service, metadata: {name: two}}]}\n---\n# nothing\n---\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: three}\n";
        assert_eq!(names(text).unwrap(), ["WasmPlugin n/one", "Service two", "ConfigMap three"]);
        assert_eq!(names("{\"apiVersion\": \"v1\", \"kind\": \"Service\"}").unwrap(), ["Service (no name)"]);
        assert_eq!(names("{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}").unwrap(), [""; 0]);
    }

    #[test]
    fn a_file_without_resources_says_why() {
        for (bytes, why) in [
            (&b"upstream: http://a\n"[..], "holds no resource of Kubernetes"),
            (b"", "holds no resource of Kubernetes"),
            (b"a: 1\nb: [1, 2\nc: }", "is not YAML: "),
            (b"\x89PNG\xff", "is not UTF-8: bad byte in line 1"),
        ] {
            let told = why_none(bytes).message;
            assert!(told.starts_with(why), "{told}");
            assert!(!why.ends_with("YAML: ") || told.contains("(line "), "{told}");
        }
    }

    #[test]
    fn a_gateways_file_is_no_resource() {
        assert_eq!(names("upstream: http://a\n"), None);
        assert_eq!(names("upstream: http://a # apiVersion, kind\n"), None);
        assert!(read(b"apiVersion: v1\nkind: [").is_err());
        assert_eq!(read(b"apiVersion kind \xff").unwrap(), None);
    }
}
