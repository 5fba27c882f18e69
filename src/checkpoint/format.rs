//! The bytes of a safetensors file: the header's checks, and how it is written.
//!
//! What is accepted here is what the crate safetensors accepts, but for keys that occur twice; its own
//! checks do not say which tensor they failed at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::tensor::Tensor;
use crate::error::{Error, Result};

/// Bytes in front of the header, which hold its length.
pub(super) const PREFIX: usize = size_of::<u64>();

/// The longest header that the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// The key of the header's text entries.
pub(super) const METADATA: &str = "__metadata__";

/// What a header says.
pub(super) struct Header {
    /// By their keys, in the order of their data.
    pub(super) tensors: Vec<(String, TensorInfo)>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// An [`Error::Malformed`].
pub(super) fn malformed(part: &str, reason: impl Into<String>) -> Error {
    Error::Malformed { part: part.into(), reason: reason.into() }
}

/// The header's length, as the first bytes give it, in a file of `whole` bytes.
pub(super) fn header_length(prefix: [u8; PREFIX], whole: u64) -> Result<usize> {
    let length = u64::from_le_bytes(prefix);
    let room = whole.saturating_sub(PREFIX as u64);
    if length > LONGEST_HEADER {
        let reason = format!("up to {LONGEST_HEADER} bytes are allowed, but it says {length}");
        return Err(malformed("header", reason));
    }
    if length > room {
        let reason = format!("it says it has {length} bytes, but {room} are there");
        return Err(malformed("header", reason));
    }
    usize::try_from(length).map_err(|_| malformed("header", "it is longer than memory"))
}

/// The error of a file that is too short to have a header.
pub(super) fn no_header(whole: u64) -> Error {
    malformed("header", format!("its length takes {PREFIX} bytes, but the file has {whole}"))
}

/// Reads the header of a file that has `data` bytes behind it.
pub(super) fn parse(header: &[u8], data: u64) -> Result<Header> {
    let Entries { mut tensors, metadata } =
        serde_json::from_slice(header).map_err(|error| malformed("header", error.to_string()))?;
    let mut keys = BTreeSet::new();
    for (key, _) in &tensors {
        if !keys.insert(key.as_str()) {
            return Err(Error::KeyTwice { key: key.clone() });
        }
    }
    tensors.sort_by(|(a, x), (b, y)| x.data_offsets.cmp(&y.data_offsets).then_with(|| a.cmp(b)));
    let mut end = 0;
    for (key, info) in &tensors {
        end = expect_place(key, info, end, data)?;
    }
    if end as u64 != data {
        let reason = format!("the tensors take {end} bytes, but {data} are there");
        return Err(malformed("data", reason));
    }
    let metadata = unique(metadata)?;
    // The crate's word on it, which should not differ.
    Metadata::new(None, tensors.clone()).map_err(|error| malformed("header", error.to_string()))?;
    Ok(Header { tensors, metadata })
}

/// Passes if the tensor begins where the one before it ended, and takes what its shape asks for.
/// Returns where it ends.
fn expect_place(key: &str, info: &TensorInfo, expected: usize, data: u64) -> Result<usize> {
    let (begin, end) = info.data_offsets;
    if begin != expected || end < begin {
        let reason = format!(
            "it lies at bytes {begin} to {end}, but tensors must follow each other, so that it \
             begins at {expected}"
        );
        return Err(malformed(key, reason));
    }
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, n| bits.checked_mul(*n));
    let Some(bits) = bits else {
        return Err(malformed(key, format!("its shape {:?} is too large", info.shape)));
    };
    if bits % 8 != 0 || bits / 8 != end - begin {
        let (shape, dtype, given) = (&info.shape, info.dtype, end - begin);
        let reason = format!("{shape:?} of {dtype} takes {bits} bits, but it has {given} bytes");
        return Err(malformed(key, reason));
    }
    if end as u64 > data {
        let reason = format!("it reaches to byte {end}, but {data} are there");
        return Err(malformed(key, reason));
    }
    Ok(end)
}

fn unique(pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.contains_key(&key) {
            return Err(malformed(METADATA, format!("`{key}` is given twice")));
        }
        map.insert(key, value);
    }
    Ok(map)
}

/// The header's entries as they come, so that a key that comes twice can be seen.
struct Entries {
    tensors: Vec<(String, TensorInfo)>,
    metadata: Vec<(String, String)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let (mut tensors, mut metadata) = (Vec::new(), None);
                while let Some(key) = map.next_key::<String>()? {
                    let named = |error| A::Error::custom(format_args!("`{key}`: {error}"));
                    if key == METADATA {
                        let texts = map.next_value::<Option<Pairs<String>>>().map_err(named)?;
                        if metadata.replace(texts).is_some() {
                            return Err(A::Error::custom(format_args!("`{key}` comes twice")));
                        }
                    } else {
                        let info = map.next_value::<TensorInfo>().map_err(named)?;
                        tensors.push((key, info));
                    }
                }
                let metadata = metadata.flatten().map(|pairs| pairs.0).unwrap_or_default();
                Ok(Entries { tensors, metadata })
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// An object's entries as they come.
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Pairs<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// The tensors in the order in which their data is written: the types of the largest numbers first, so
/// that all lie aligned, then by key.
pub(super) fn ordered(tensors: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor)> {
    let mut order: Vec<_> = tensors.iter().map(|(key, tensor)| (key.as_str(), tensor)).collect();
    order.sort_by(|(a, x), (b, y)| y.dtype().cmp(&x.dtype()).then(a.cmp(b)));
    order
}

/// The bytes of a file up to the tensors' data, which follows in this order. The same tensors and
/// texts make the same bytes.
pub(super) fn header(
    order: &[(&str, &Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let failed = |error: serde_json::Error| malformed("header", error.to_string());
    let mut entries = Map::new();
    if !metadata.is_empty() {
        let texts = metadata.iter().map(|(key, text)| (key.clone(), text.as_str().into()));
        entries.insert(METADATA.into(), Value::Object(texts.collect()));
    }
    let mut infos = Vec::new();
    let mut end = 0;
    for (key, tensor) in order {
        let (begin, shape) = (end, tensor.shape().to_vec());
        end += tensor.size();
        let info = TensorInfo { dtype: tensor.dtype(), shape, data_offsets: (begin, end) };
        let entry = serde_json::to_value(&info).map_err(failed)?;
        if entries.insert((*key).into(), entry).is_some() {
            return Err(malformed(key, "this key is taken by the format"));
        }
        infos.push(((*key).into(), info));
    }
    Metadata::new(None, infos).map_err(|error| malformed("header", error.to_string()))?;
    let mut header = serde_json::to_vec(&entries).map_err(failed)?;
    header.resize(header.len().next_multiple_of(PREFIX), b' ');
    let length = header.len() as u64;
    if length > LONGEST_HEADER {
        let reason = format!("up to {LONGEST_HEADER} bytes are allowed, but it takes {length}");
        return Err(malformed("header", reason));
    }
    header.splice(..0, length.to_le_bytes());
    Ok(header)
}
