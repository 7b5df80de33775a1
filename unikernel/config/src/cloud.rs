//! What `meta-data` and `user-data` say (cloud-init's formats), as far as it means something to a machine with one program:
//! its name, files, variables.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::yaml::{self, Value, YamlError};

/// How user data of this kind begins.
const CLOUD_CONFIG: &[u8] = b"#cloud-config";
const DEFAULT_PERMISSIONS: u16 = 0o644;

/// Who the machine is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetaData {
    /// `local-hostname` or `hostname`.
    pub host_name: Option<String>,
    /// `instance-id`.
    pub instance: Option<String>,
    /// `network-interfaces` is of no use, `network` is network configuration.
    pub network: Option<Value>,
}

impl MetaData {
    /// Reads it.
    pub fn parse(bytes: &[u8]) -> Result<Self, YamlError> {
        let value = yaml::parse(bytes)?;
        let text = |key: &str| value.get(key).text().map(str::to_string);
        let network = value.get("network");
        Ok(Self {
            host_name: text("local-hostname").or_else(|| text("hostname")),
            instance: text("instance-id"),
            network: (*network != Value::Null).then(|| network.clone()),
        })
    }
}

/// A file that is to be there before the program starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// An absolute path without `..`.
    pub path: String,
    /// Its permission bits.
    pub permissions: u16,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// A variable for the program: name and value.
pub type Variable = (String, String);

/// What user data asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserData {
    /// `hostname`, or the first part of `fqdn`.
    pub host_name: Option<String>,
    /// `write_files`.
    pub files: Vec<File>,
    /// `environment`.
    pub environment: Vec<Variable>,
    /// What is left undone, and why, in sentences.
    pub complaints: Vec<String>,
}

impl UserData {
    /// Reads it. What is not of the kind `#cloud-config` is the program's alone, and asks for nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self, YamlError> {
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if first.trim_ascii() != CLOUD_CONFIG {
            return Ok(Self::default());
        }
        let value = yaml::parse(bytes)?;
        let mut data = Self::default();
        let fqdn = value.get("fqdn").text().and_then(|name| name.split('.').next());
        data.host_name = value.get("hostname").text().or(fqdn).map(str::to_string);
        for (number, file) in value.get("write_files").list().iter().enumerate() {
            match read_file(file) {
                Ok(file) => data.files.push(file),
                Err(problem) => {
                    data.complaints.push(format!("write_files, number {}: {problem}", number + 1));
                }
            }
        }
        for (name, value) in value.get("environment").entries() {
            match value.text().filter(|value| is_variable(name, value)) {
                Some(value) => data.environment.push((name.clone(), value.to_string())),
                None => {
                    data.complaints.push(format!("environment: `{}` is no variable", name.escape_debug()));
                }
            }
        }
        let known = ["hostname", "fqdn", "write_files", "environment"];
        let others = value.entries().iter().map(|(key, _)| key).filter(|key| !known.contains(&key.as_str()));
        let others: Vec<String> = others.map(|key| key.escape_debug().to_string()).collect();
        if !others.is_empty() {
            data.complaints.push(format!("not used: {}", others.join(", ")));
        }
        Ok(data)
    }
}

fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

fn read_file(value: &Value) -> Result<File, &'static str> {
    let path = value.get("path").text().ok_or("there is no `path`")?;
    let is_good = path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| part != ".." && part.len() <= 255);
    if !is_good {
        return Err("`path` is not the absolute path of a file");
    }
    if value.get("append").is_true() {
        return Err("`append` is not understood");
    }
    let permissions = match value.get("permissions").text() {
        Some(text) => {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            let bits = u16::from_str_radix(digits, 8).ok().filter(|bits| *bits <= 0o7777);
            bits.filter(|_| !digits.starts_with('+')).ok_or("`permissions` are octal, such as '0644'")?
        }
        None => DEFAULT_PERMISSIONS,
    };
    let text = match value.get("content") {
        Value::Null => "",
        other => other.text().ok_or("`content` is no text")?,
    };
    let content = match value.get("encoding").text().unwrap_or("text/plain") {
        "text/plain" => text.as_bytes().to_vec(),
        "b64" | "base64" => {
            let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            STANDARD.decode(digits).map_err(|_| "`content` is no base64")?
        }
        _ => return Err("`encoding` is neither text/plain nor b64"),
    };
    Ok(File { path: path.to_string(), permissions, content })
}
