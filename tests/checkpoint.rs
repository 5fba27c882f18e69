//! Checkpoints: the bytes of a file, files, and what comes back to the GPU.
//!
//! tests/checkpoints/ holds files that PyTorch wrote, and the script that makes them.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};

use common::{
    Place, Rig, USAGES, buffer, element_bits, expect_same_bits, on_every_adapter, once_per_adapter,
    property_config, random,
};
use proptest::prelude::*;
use tied_linear::checkpoint::{Checkpoint, Form, LayerKeys, StateDict};
use tied_linear::headless::Gpu;
use tied_linear::kernels::SgdSettings;
use tied_linear::{
    Activation, AdamSettings, AutoencoderGradients, AutoencoderStep, AutoencoderStepOptions,
    Commands, Decoder, ElementType, ElementTypes, Encoder, Error, Gradients, LossScale,
    LossScaleSettings, LossScaleStatus, Matrix, Noise, NoiseState, Optimizer, OptimizerSettings,
    OptimizerState, Parameters, TiedAutoencoder, TiedAutoencoderOptions, TiedLinear,
    TiedLinearOptions, TrainingOptions, TrainingStep, Weight, wgpu,
};

// Bytes.

/// A file made by hand.
fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The header of a file as JSON, and the data behind it, read without the library.
fn split(bytes: &[u8]) -> (serde_json::Value, &[u8]) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), &bytes[8 + length..])
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Tensors of several ranks, an empty one included, and a text.
fn some_checkpoint() -> Checkpoint {
    Checkpoint::default()
        .with_tensor("encoder.weight", &[2, 3], &[1.0, -2.0, 3.5, 0.0, -0.0, f32::NAN])
        .and_then(|c| c.with_tensor("encoder.bias", &[2], &[f32::INFINITY, 1e-40]))
        .and_then(|c| c.with_tensor("optimizer.exp_avg.encoder.bias", &[2], &[0.1, 0.2]))
        .and_then(|c| c.with_tensor("empty", &[0, 4], &[]))
        .and_then(|c| c.with_tensor("scalar", &[], &[7.0]))
        .unwrap()
        .with_text("a text", "\"quoted\", ümlaut")
}

fn expect_same(what: &str, got: &Checkpoint, want: &Checkpoint) {
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{what}");
    assert_eq!(got.ties().collect::<Vec<_>>(), want.ties().collect::<Vec<_>>(), "{what}");
    for key in want.keys() {
        assert_eq!(got.shape(key), want.shape(key), "{what}: {key}");
        assert_eq!(got.dtype(key), want.dtype(key), "{what}: {key}");
        let [a, b] = [got, want].map(|checkpoint| bits(&checkpoint.values(key).unwrap()));
        assert_eq!(a, b, "{what}: {key}");
    }
}

#[test]
fn bytes_come_back_as_they_were() {
    let checkpoint = some_checkpoint();
    let bytes = checkpoint.to_bytes().unwrap();
    let back = Checkpoint::from_bytes(&bytes).unwrap();
    expect_same("bytes", &back, &checkpoint);
    assert_eq!(back.text("a text"), Some("\"quoted\", ümlaut"));
    assert_eq!(back.text("another"), None);
    assert_eq!(back.to_bytes().unwrap(), bytes);
    assert_eq!(back.shape("empty"), Some(&[0, 4][..]));
    assert_eq!(back.shape("scalar"), Some(&[][..]));
    let nothing = Checkpoint::default().to_bytes().unwrap();
    assert_eq!(Checkpoint::from_bytes(&nothing).unwrap().keys().count(), 0);
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let checkpoint = Checkpoint::default().with_tensor("b", &[2], &[1.0, 2.0]).unwrap();
    let checkpoint = checkpoint.with_tensor("a", &[1, 1], &[3.0]).unwrap();
    let bytes = checkpoint.to_bytes().unwrap();
    let (header, data) = split(&bytes);
    let want = serde_json::json!({
        "__metadata__": { "format": "pt", "tied_linear.version": "1" },
        "a": { "dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4] },
        "b": { "dtype": "F32", "shape": [2], "data_offsets": [4, 12] },
    });
    assert_eq!(header, want);
    assert_eq!(data, floats(&[3.0, 1.0, 2.0]));
    // The data begins aligned, and the numbers of the largest types come first.
    assert_eq!((bytes.len() - data.len()) % 8, 0);
    let mixed =
        checkpoint.with_dtype(ElementType::F16).unwrap().with_tensor("c", &[1], &[5.0]).unwrap();
    let bytes = mixed.to_bytes().unwrap();
    let (header, _) = split(&bytes);
    assert_eq!(header["c"]["data_offsets"], serde_json::json!([0, 4]));
    assert_eq!(header["a"]["data_offsets"], serde_json::json!([4, 6]));
    // safetensors' own reader takes them.
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("c").unwrap().data(), floats(&[5.0]));
}

/// A tensor's entry in a header.
fn entry(key: &str, dtype: &str, shape: &str, offsets: [u64; 2]) -> String {
    let [begin, end] = offsets;
    format!(r#""{key}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

/// Files that are none, each with what its error must name.
fn malformed() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let one = |dtype: &str, shape: &str, offsets| {
        format!("{{{}}}", entry("the.key", dtype, shape, offsets))
    };
    let two = |a: [u64; 2], b: [u64; 2]| {
        format!("{{{},{}}}", entry("first", "F32", "[2]", a), entry("second", "F32", "[1]", b))
    };
    let good = one("F32", "[2]", [0, 8]);
    let prefix = |length: u64, rest: &[u8]| [&length.to_le_bytes()[..], rest].concat();
    let metadata =
        |text: &str| format!(r#"{{"__metadata__":{text},{}}}"#, entry("w", "F32", "[1]", [0, 4]));
    let ties = |text: &str| metadata(&format!(r#"{{"tied_linear.ties":"{text}"}}"#));
    vec![
        ("empty", vec![], "header"),
        ("seven bytes", vec![0; 7], "header"),
        ("no header behind its length", prefix(8, &[]), "header"),
        ("a header longer than the file", prefix(100, good.as_bytes()), "header"),
        ("a header over the format's limit", prefix(100_000_001, good.as_bytes()), "100000001"),
        ("a header length of 2^64 - 1", prefix(u64::MAX, good.as_bytes()), "header"),
        ("an empty header", raw("", &[]), "header"),
        ("a truncated header", prefix(20, &good.as_bytes()[..20]), "header"),
        ("not UTF-8", prefix(4, &[b'{', 0xff, 0xfe, b'}']), "header"),
        ("not JSON", raw("tensors", &[]), "header"),
        ("JSON, but no object", raw("[]", &[]), "header"),
        ("nested without end", raw(&"{\"a\":".repeat(10_000), &[]), "header"),
        ("text behind the header's object", raw(&format!("{good}x"), &[0; 8]), "header"),
        ("no dtype", raw(r#"{"the.key":{"shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]), "the.key"),
        ("no tensor", raw(r#"{"the.key":7}"#, &[]), "the.key"),
        ("an unknown dtype", raw(&one("F33", "[2]", [0, 8]), &[0; 8]), "the.key"),
        ("a negative size", raw(&one("F32", "[-2]", [0, 8]), &[0; 8]), "the.key"),
        ("a fraction as a size", raw(&one("F32", "[2.5]", [0, 8]), &[0; 8]), "the.key"),
        ("too few bytes for the shape", raw(&one("F32", "[3]", [0, 8]), &[0; 8]), "the.key"),
        ("too many bytes for the shape", raw(&one("F32", "[1]", [0, 8]), &[0; 8]), "the.key"),
        ("too many bytes for the type", raw(&one("F16", "[2]", [0, 8]), &[0; 8]), "the.key"),
        (
            "a size that overflows",
            raw(&one("F32", "[4294967296,4294967296]", [0, 8]), &[0; 8]),
            "the.key",
        ),
        ("half a byte", raw(&one("F4", "[1]", [0, 0]), &[]), "`the.key`: [1] of F4"),
        (
            "offsets reversed",
            raw(&one("F32", "[0]", [8, 0]), &[0; 8]),
            "`the.key`: it lies at bytes 8 to 0",
        ),
        ("offsets of 2^64 - 1", raw(&one("F32", "[0]", [u64::MAX, u64::MAX]), &[]), "the.key"),
        (
            "a tensor that does not begin at 0",
            raw(&one("F32", "[1]", [4, 8]), &[0; 8]),
            "`the.key`: it lies at bytes 4 to 8",
        ),
        (
            "overlapping tensors",
            raw(&two([0, 8], [4, 8]), &[0; 8]),
            "`second`: it lies at bytes 4 to 8",
        ),
        (
            "the same bytes twice",
            raw(&two([0, 8], [0, 4]), &[0; 8]),
            "`first`: it lies at bytes 0 to 8",
        ),
        (
            "a gap between tensors",
            raw(&two([0, 8], [12, 16]), &[0; 16]),
            "`second`: it lies at bytes 12 to 16",
        ),
        ("truncated in the first tensor", raw(&two([0, 8], [8, 12]), &[0; 7]), "first"),
        ("truncated in the second tensor", raw(&two([0, 8], [8, 12]), &[0; 11]), "second"),
        ("no data", raw(&good, &[]), "the.key"),
        ("data without a tensor", raw("{}", &[0; 4]), "data"),
        ("data behind the last tensor", raw(&good, &[0; 9]), "data"),
        (
            "a key twice",
            raw(&format!("{{{0},{0}}}", entry("the.key", "F32", "[1]", [0, 4])), &[0; 4]),
            "the key `the.key` is given twice",
        ),
        (
            "a field twice",
            raw(
                r#"{"the.key":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
            "the.key",
        ),
        ("metadata that is a number", raw(&metadata("7"), &[0; 4]), "__metadata__"),
        ("metadata of numbers", raw(&metadata(r#"{"a":7}"#), &[0; 4]), "__metadata__"),
        ("a text twice", raw(&metadata(r#"{"a":"b","a":"c"}"#), &[0; 4]), "`a`"),
        ("metadata twice", raw(r#"{"__metadata__":{},"__metadata__":{}}"#, &[]), "__metadata__"),
        ("ties that are not JSON", raw(&ties("nothing"), &[0; 4]), "tied_linear.ties"),
        ("ties that are no texts", raw(&ties(r#"{\"v\":7}"#), &[0; 4]), "tied_linear.ties"),
        ("a tie that is no transpose", raw(&ties(r#"{\"v\":\"w\"}"#), &[0; 4]), "`v`"),
        ("a tie to what is not there", raw(&ties(r#"{\"v\":\"u^T\"}"#), &[0; 4]), "`u`"),
        ("a tie of what is stored", raw(&ties(r#"{\"w\":\"w^T\"}"#), &[0; 4]), "`w`"),
        ("a tie twice", raw(&ties(r#"{\"v\":\"w^T\",\"v\":\"w^T\"}"#), &[0; 4]), "`v`"),
        ("a later version", raw(&metadata(r#"{"tied_linear.version":"2"}"#), &[0; 4]), "\"2\""),
        (
            "no version at all",
            raw(&metadata(r#"{"tied_linear.version":""}"#), &[0; 4]),
            "version 1",
        ),
    ]
}

#[test]
fn malformed_files_are_refused_and_the_error_names_the_key() {
    let folder = Folder::new("malformed");
    for (what, bytes, named) in malformed() {
        let error = Checkpoint::from_bytes(&bytes).expect_err(what);
        let message = error.to_string();
        assert!(message.contains(named), "{what}: {message}");
        // Of a file, which is not read whole, the same.
        let path = folder.file("f");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(Checkpoint::open(&path).expect_err(what), error, "{what}");
    }
    let error = Checkpoint::from_bytes(&malformed().last().unwrap().1).unwrap_err();
    assert_eq!(error, Error::CheckpointVersion { known: 1, given: String::new() });
    // What the malformed ones are variants of is none of them.
    let good = raw(&format!("{{{}}}", entry("the.key", "F32", "[2]", [0, 8])), &[0; 8]);
    assert_eq!(Checkpoint::from_bytes(&good).unwrap().shape("the.key"), Some(&[2][..]));
    let tied = format!(
        r#"{{"__metadata__":{{"tied_linear.ties":"{{\"v\":\"w^T\"}}"}},{}}}"#,
        entry("w", "F32", "[1]", [0, 4])
    );
    let tied = Checkpoint::from_bytes(&raw(&tied, &[0; 4])).unwrap();
    assert_eq!(tied.ties().collect::<Vec<_>>(), [["v", "w"]]);
}

/// Fails where the bytes are taken for a file, and safetensors' own reader does not take them.
fn expect_no_more_than_safetensors(bytes: &[u8]) {
    let theirs = safetensors::SafeTensors::deserialize(bytes);
    match Checkpoint::from_bytes(bytes) {
        Ok(checkpoint) => {
            let theirs = theirs.expect("safetensors takes what is taken here");
            for (key, view) in theirs.tensors() {
                assert_eq!(checkpoint.shape(&key), Some(view.shape()), "{key}");
                assert_eq!(checkpoint.dtype(&key), Some(view.dtype().to_string()), "{key}");
                if let Ok(values) = checkpoint.values(&key) {
                    assert_eq!(values.len(), view.shape().iter().product::<usize>());
                }
            }
            // It can be written, and comes back.
            let again = Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()).unwrap();
            assert_eq!(again.keys().collect::<Vec<_>>(), checkpoint.keys().collect::<Vec<_>>());
        }
        Err(Error::Malformed { part, .. }) if part == "tied_linear.ties" => {}
        Err(Error::KeyTwice { .. } | Error::CheckpointVersion { .. }) => {}
        Err(error) => {
            let twice = error.to_string().contains("twice");
            assert!(theirs.is_err() || twice, "safetensors takes it: {error}");
        }
    }
}

#[test]
fn any_truncation_and_any_flipped_bit_is_survived() {
    let bytes = some_checkpoint().to_bytes().unwrap();
    for length in 0..bytes.len() {
        assert!(Checkpoint::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            expect_no_more_than_safetensors(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(property_config(2_000))]

    #[test]
    fn any_bytes_are_survived(
        at in 0_usize..600,
        put in prop::collection::vec(any::<u8>(), 0..12),
        cut in 0_usize..12,
        swap in (0_usize..600, 0_usize..600),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = some_checkpoint().to_bytes().unwrap();
        let data = split(&bytes).1.len() as u64;
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put);
        let last = bytes.len() - 1;
        bytes.swap(swap.0.min(last), swap.1.min(last));
        expect_no_more_than_safetensors(&bytes);
        // The length of the header made right again, so that the header itself is read.
        let length = (bytes.len() as u64).saturating_sub(8 + data);
        if let Some(prefix) = bytes.first_chunk_mut() {
            *prefix = length.to_le_bytes();
        }
        expect_no_more_than_safetensors(&bytes);
        expect_no_more_than_safetensors(&noise);
        expect_no_more_than_safetensors(&raw(&String::from_utf8_lossy(&noise), &noise));
    }
}

#[test]
fn a_narrower_type_is_rounded_to_the_nearest_and_ties_to_even() {
    let tiny = 2.0_f32.powi(-24);
    let eps = 2.0_f32.powi(-11);
    // Value, in f16 and in bf16; NaN stays one.
    let cases = [
        (1.0, 1.0, 1.0),
        (-0.0, -0.0, -0.0),
        (1.0 + eps, 1.0, 1.0),
        (1.0 + 1.01 * eps, 1.0 + 2.0 * eps, 1.0),
        (1.0 + 3.0 * eps, 1.0 + 4.0 * eps, 1.0),
        (1.0 + 8.0 * eps, 1.0 + 8.0 * eps, 1.0),
        (1.0 + 24.0 * eps, 1.0 + 24.0 * eps, 1.0 + 32.0 * eps),
        (65504.0, 65504.0, 65536.0),
        (65519.0, 65504.0, 65536.0),
        (-65519.0, -65504.0, -65536.0),
        (tiny, tiny, tiny),
        (0.5 * tiny, 0.0, 0.5 * tiny),
        (0.51 * tiny, tiny, 0.51 * tiny),
        (-1.5 * tiny, -2.0 * tiny, -1.5 * tiny),
        (f32::INFINITY, f32::INFINITY, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY),
    ];
    let values: Vec<f32> = cases.iter().map(|case| case.0).chain([f32::NAN]).collect();
    let keys = ["weight", "optimizer.exp_avg.weight"];
    let put = |checkpoint: Checkpoint, key| checkpoint.with_tensor(key, &[17], &values).unwrap();
    let checkpoint = keys.into_iter().fold(Checkpoint::default(), put);
    for (dtype, name) in
        [(ElementType::F32, "F32"), (ElementType::F16, "F16"), (ElementType::Bf16, "BF16")]
    {
        let narrow = checkpoint.clone().with_dtype(dtype).unwrap();
        let bytes = narrow.to_bytes().unwrap();
        let size = if dtype == ElementType::F32 { 4 } else { 2 };
        assert_eq!(split(&bytes).1.len(), 17 * (size + 4), "{dtype}");
        let back = Checkpoint::from_bytes(&bytes).unwrap();
        assert_eq!(back.dtype("weight").as_deref(), Some(name));
        let got = back.values("weight").unwrap();
        for (index, (&(value, f16, bf16), got)) in cases.iter().zip(&got).enumerate() {
            let want = match dtype {
                ElementType::F16 => f16,
                ElementType::Bf16 if index == 12 => round_bf16(value),
                ElementType::Bf16 => bf16,
                _ => value,
            };
            assert_eq!(got.to_bits(), want.to_bits(), "{value:e} as {dtype}: {got:e}");
        }
        assert!(got[16].is_nan(), "{dtype}");
        // Moments are never rounded.
        assert_eq!(back.dtype(keys[1]).as_deref(), Some("F32"));
        assert_eq!(bits(&back.values(keys[1]).unwrap()), bits(&values));
        // Rounding again changes nothing, and a wider type holds what the narrower one did.
        let wide = back.with_dtype(dtype).unwrap().with_dtype(ElementType::F32).unwrap();
        assert_eq!(bits(&wide.values("weight").unwrap()), bits(&got));
    }
}

/// By whole numbers: half of the last place is added, and the place of a tie is even.
fn round_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

#[test]
fn a_number_that_a_type_cannot_hold_is_refused() {
    for (dtype, value) in [
        (ElementType::F16, 65520.0),
        (ElementType::F16, -1e9),
        (ElementType::Bf16, f32::MAX),
        (ElementType::Bf16, f32::MIN),
    ] {
        let checkpoint = Checkpoint::default().with_tensor("w", &[2], &[1.0, value]).unwrap();
        match checkpoint.with_dtype(dtype) {
            Err(Error::KeyValue { key, given, .. }) => {
                assert_eq!((key.as_str(), given), ("w", f64::from(value)));
            }
            other => panic!("{value} as {dtype}: {other:?}"),
        }
    }
}

#[test]
fn tensors_can_be_put_in_and_left_out() {
    let wrong = Checkpoint::default().with_tensor("w", &[2, 3], &[0.0; 5]);
    expect_named(wrong, "w", "5 values");
    let wrong = Checkpoint::default().with_tensor("w", &[usize::MAX, 2], &[]);
    expect_named(wrong, "w", "0 values");
    let taken = Checkpoint::default().with_tensor("__metadata__", &[], &[1.0]).unwrap();
    expect_named(taken.to_bytes(), "__metadata__", "taken");
    let mut checkpoint = some_checkpoint();
    assert_eq!(checkpoint.values("nothing"), Err(Error::MissingKey { key: "nothing".into() }));
    checkpoint = checkpoint.without_optimizer();
    let keys = ["empty", "encoder.bias", "encoder.weight", "scalar"];
    assert_eq!(checkpoint.keys().collect::<Vec<_>>(), keys);
    checkpoint.retain(|key| key.starts_with("encoder."));
    assert_eq!(checkpoint.keys().collect::<Vec<_>>(), &keys[1..3]);
    let other = checkpoint.with_tensor("encoder.bias", &[1], &[4.0]).unwrap();
    assert_eq!(other.values("encoder.bias"), Ok(vec![4.0]));
}

/// Fails where the result is no error that names the key and says this.
fn expect_named<T: std::fmt::Debug>(result: Result<T, Error>, key: &str, says: &str) {
    let message = result.expect_err(key).to_string();
    assert!(message.contains(&format!("`{key}`")), "`{key}` is not in \"{message}\"");
    assert!(message.contains(says), "\"{says}\" is not in \"{message}\"");
}

// Files.

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("checkpoint-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(|e| name(e).into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_comes_back_as_it_was_saved() {
    let folder = Folder::new("saved");
    let path = folder.file("f.safetensors");
    let checkpoint = some_checkpoint();
    checkpoint.save(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), checkpoint.to_bytes().unwrap());
    let opened = Checkpoint::open(&path).unwrap();
    expect_same("file", &opened, &checkpoint);
    // Over itself, while it is open: its numbers are still those of the file that was opened.
    let other = opened.clone().with_tensor("scalar", &[], &[8.0]).unwrap();
    other.save(&path).unwrap();
    expect_same("the old file", &opened, &checkpoint);
    expect_same("the new file", &Checkpoint::open(&path).unwrap(), &other);
    assert_eq!(folder.names(), ["f.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_link_and_permissions_survive_a_save() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new("link");
    let [file, link] = ["file", "link"].map(|name| folder.file(name));
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("file", &link).unwrap();
    some_checkpoint().save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    expect_same("link", &Checkpoint::open(&file).unwrap(), &some_checkpoint());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(folder.names(), ["file", "link"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_with_its_path() {
    let folder = Folder::new("unopened");
    let missing = folder.file("missing");
    for (path, kind) in [(&missing, ErrorKind::NotFound), (&folder.0, ErrorKind::IsADirectory)] {
        match Checkpoint::open(path) {
            Err(Error::File { path: given, what: "opened", kind: found, .. }) => {
                assert_eq!((&given, found), (path, kind));
            }
            other => panic!("{path:?}: {other:?}"),
        }
    }
    let message = Checkpoint::open(&missing).unwrap_err().to_string();
    assert!(message.contains(&missing.display().to_string()), "{message}");
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_an_error() {
    let folder = Folder::new("shrunk");
    let path = folder.file("f");
    some_checkpoint().save(&path).unwrap();
    let opened = Checkpoint::open(&path).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 30).unwrap();
    let errors = opened.keys().filter_map(|key| opened.values(key).err()).collect::<Vec<_>>();
    assert!(!errors.is_empty());
    for error in errors {
        assert!(matches!(error, Error::File { what: "read", .. }), "{error:?}");
    }
    // Nor can it be saved; what is there stays.
    let before = fs::read(&path).unwrap();
    assert!(matches!(opened.save(&path), Err(Error::File { what: "read", .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(folder.names(), ["f"]);
}

fn expect_unsaved(result: Result<(), Error>, path: &Path) {
    match result {
        Err(Error::File { path: given, what: "saved", .. }) => assert_eq!(given, path),
        other => panic!("{path:?}: {other:?}"),
    }
}

#[test]
fn a_save_that_fails_leaves_what_was_there() {
    let folder = Folder::new("unsaved");
    // A folder with something in it, and an empty one, which a rename alone would replace.
    let [full, empty] = ["full", "empty"].map(|name| folder.file(name));
    fs::create_dir_all(full.join("inner")).unwrap();
    fs::create_dir(&empty).unwrap();
    for path in [&full, &empty, &folder.file("missing/f"), &full.join("inner/..")] {
        expect_unsaved(some_checkpoint().save(path), path);
    }
    assert_eq!(folder.names(), ["empty", "full"]);
    assert!(full.join("inner").is_dir());
    // What cannot be serialised is not begun.
    let taken = Checkpoint::default().with_tensor("__metadata__", &[], &[1.0]).unwrap();
    assert!(matches!(taken.save(folder.file("f")), Err(Error::Malformed { .. })));
    assert_eq!(folder.names(), ["empty", "full"]);
    if cfg!(target_os = "linux") {
        let path = Path::new("/proc/f.safetensors");
        expect_unsaved(some_checkpoint().save(path), path);
    }
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_keeps_its_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("read-only");
    let path = folder.file("f");
    fs::write(&path, "old").unwrap();
    let set = |mode| fs::set_permissions(&folder.0, fs::Permissions::from_mode(mode)).unwrap();
    set(0o555);
    let writable = fs::write(folder.file("probe"), "").is_ok();
    let result = some_checkpoint().save(&path);
    set(0o755);
    if writable {
        println!("NOT RUN: this user may write to read-only folders");
        return;
    }
    expect_unsaved(result, &path);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(folder.names(), ["f"]);
}

/// Set in the child processes of tests.
const CHILD: &str = "TIED_LINEAR_TEST_CHILD";

/// Runs the test of this name alone in a shell, in this folder, after `setup`.
#[cfg(unix)]
fn in_a_child(test: &str, folder: &Folder, setup: &str) {
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new("sh");
    child.arg("-c").arg(format!("{setup} exec \"$0\" --exact {test} --nocapture")).arg(program);
    let output = child.current_dir(&folder.0).env(CHILD, "1").output().expect("a child process");
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let passed = output.status.success() && out.contains("1 passed");
    assert!(passed, "the child process failed ({}):\n{out}\n{err}", output.status);
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_halfway_keeps_the_old_file() {
    let large = || Checkpoint::default().with_tensor("w", &[1 << 16], &vec![1.0; 1 << 16]).unwrap();
    if std::env::var_os(CHILD).is_some() {
        expect_unsaved(large().save("f"), Path::new("f"));
        return;
    }
    let folder = Folder::new("full");
    fs::write(folder.file("f"), "old").unwrap();
    // No file may be longer than 64 blocks of 512 bytes; the signal at that is ignored.
    let test = "a_disk_that_is_full_halfway_keeps_the_old_file";
    in_a_child(test, &folder, "trap '' XFSZ; ulimit -f 64;");
    assert_eq!(fs::read(folder.file("f")).unwrap(), b"old");
    assert_eq!(folder.names(), ["f"]);
    // It is the limit that makes it fail.
    large().save(folder.file("f")).unwrap();
}

#[cfg(unix)]
#[test]
fn a_path_without_a_folder_is_one_in_the_working_folder() {
    if std::env::var_os(CHILD).is_some() {
        some_checkpoint().save("f").unwrap();
        return;
    }
    let folder = Folder::new("bare");
    in_a_child("a_path_without_a_folder_is_one_in_the_working_folder", &folder, "");
    expect_same("f", &Checkpoint::open(folder.file("f")).unwrap(), &some_checkpoint());
    assert_eq!(folder.names(), ["f"]);
}

// Layers.

const INPUTS: u32 = 5;
const HIDDEN: u32 = 3;

/// A layer with these values in odd places.
struct Placed {
    layer: TiedLinear,
    values: [Vec<f32>; 3],
}

/// Numbers with every kind of bits.
fn values_of(rows: u32, columns: u32, seed: u64) -> Vec<f32> {
    let special = [f32::NAN, -0.0, f32::INFINITY, 1e-42, f32::MAX, f32::NEG_INFINITY];
    let random = random(rows, columns, seed).values.into_iter().map(|value| value as f32);
    random.enumerate().map(|(i, v)| if i % 3 == 1 { special[i / 3 % 6] } else { v }).collect()
}

fn placed(rig: &Rig, [hidden, inputs]: [u32; 2], place: Place, biases: [bool; 2]) -> Placed {
    let values = [values_of(hidden, inputs, 1), values_of(1, hidden, 2), values_of(1, inputs, 3)];
    let put = |rows, columns, values: &[f32]| rig.put_f32(rows, columns, values, place);
    let weight = Weight::new(&rig.kernels, put(hidden, inputs, &values[0])).unwrap();
    let b = biases[0].then(|| put(1, hidden, &values[1]));
    let c = biases[1].then(|| put(1, inputs, &values[2]));
    let encoder = Encoder::new(&rig.kernels, &weight, b, Activation::Tanh).unwrap();
    let decoder = Decoder::new(&rig.kernels, &weight, c, Activation::Identity).unwrap();
    Placed { layer: TiedLinear::from_halves(encoder, decoder).unwrap(), values }
}

/// A layer of other values.
fn other(rig: &Rig, [hidden, inputs]: [u32; 2], biases: [bool; 2]) -> TiedLinear {
    let options = TiedLinearOptions::new(inputs, hidden)
        .with_biases(biases[0], biases[1])
        .with_fan_in_biases()
        .with_seed(7);
    TiedLinear::new(&rig.kernels, &options).unwrap()
}

fn read(rig: &Rig, state: &StateDict) -> Checkpoint {
    Checkpoint::read_blocking(&rig.gpu.device, &rig.gpu.queue, state).unwrap()
}

fn restore(rig: &Rig, checkpoint: &Checkpoint, state: &StateDict) -> Result<(), Error> {
    checkpoint.restore(&rig.gpu.device, &rig.gpu.queue, state)
}

/// The bits of all matrices, by their keys.
fn state_bits(rig: &Rig, state: &StateDict) -> BTreeMap<String, Vec<u32>> {
    state.iter().map(|entry| (entry.key.clone(), rig.bits(&entry.matrix))).collect()
}

const KEYS: [&str; 3] = ["encoder.weight", "encoder.bias", "decoder.bias"];

#[test]
fn a_layer_is_stored_once_and_comes_back_bit_for_bit() {
    once_per_adapter(|rig| {
        let keys = &LayerKeys::default();
        for [hidden, inputs] in [[HIDDEN, INPUTS], [1, 1], [4, 8], [7, 1], [33, 70]] {
            for biases in [[true, true], [true, false], [false, true], [false, false]] {
                for place in Place::ALL {
                    let what = &format!("{hidden}x{inputs}, biases {biases:?}, {place:?}");
                    let Placed { layer, values } = placed(rig, [hidden, inputs], place, biases);
                    let state = layer.state_dict(keys);
                    let bytes = read(rig, &state).to_bytes().unwrap();
                    // The file holds each number once, the tie, and nothing else.
                    let (header, data) = split(&bytes);
                    assert_eq!(data.len() as u64, 4 * layer.parameters().count(), "{what}");
                    let text = &header["__metadata__"]["tied_linear.ties"];
                    assert_eq!(text, r#"{"decoder.weight":"encoder.weight^T"}"#, "{what}");
                    let there = [true, biases[0], biases[1]];
                    let tensors = header.as_object().unwrap().len() - 1;
                    assert_eq!(tensors, there.iter().filter(|there| **there).count(), "{what}");
                    let back = Checkpoint::from_bytes(&bytes).unwrap();
                    let shapes: [&[usize]; 3] = [
                        &[hidden as usize, inputs as usize],
                        &[hidden as usize],
                        &[inputs as usize],
                    ];
                    for i in 0..3 {
                        let shape = back.shape(KEYS[i]);
                        assert_eq!(shape, there[i].then_some(shapes[i]), "{what}, {}", KEYS[i]);
                        if there[i] {
                            let got = bits(&back.values(KEYS[i]).unwrap());
                            expect_same_bits(what, &got, &bits(&values[i]));
                        }
                    }
                    // To another layer, and to a third that takes its sizes from the file.
                    let twin = other(rig, [hidden, inputs], biases);
                    restore(rig, &back, &twin.state_dict(keys)).expect(what);
                    let f = [Activation::Tanh, Activation::Identity];
                    let third = back.tied_layer(&rig.kernels, &rig.gpu.queue, keys, f).unwrap();
                    let want = state_bits(rig, &state);
                    assert_eq!(state_bits(rig, &twin.state_dict(keys)), want, "{what}");
                    assert_eq!(state_bits(rig, &third.state_dict(keys)), want, "{what}");
                    assert_eq!(third.encoder().activation(), f[0]);
                    assert_eq!(third.decoder().activation(), f[1]);
                    // Into the odd places, too.
                    let target = placed(rig, [hidden, inputs], place, biases).layer;
                    let fresh = read(rig, &other(rig, [hidden, inputs], biases).state_dict(keys));
                    restore(rig, &fresh, &target.state_dict(keys)).unwrap();
                    for entry in target.state_dict(keys).iter() {
                        rig.expect_surroundings_untouched(what, &entry.matrix);
                        let got = rig.bits(&entry.matrix);
                        expect_same_bits(what, &got, &bits(&fresh.values(&entry.key).unwrap()));
                    }
                }
            }
        }
    });
}

#[test]
fn sizes_of_zero_come_back() {
    once_per_adapter(|rig| {
        let keys = &LayerKeys::default();
        for shape in [[0, 4], [4, 0], [0, 0]] {
            let layer = placed(rig, shape, Place::Tight, [true; 2]).layer;
            let settings = AdamSettings::adam(0.1);
            let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
            let state = layer.state_dict(keys);
            let all = optimizer.state_dict(&state).unwrap().and(state);
            let checkpoint = Checkpoint::from_bytes(&read(rig, &all).to_bytes().unwrap()).unwrap();
            assert_eq!(checkpoint.shape("encoder.weight"), Some(&shape.map(|n| n as usize)[..]));
            restore(rig, &checkpoint, &all).unwrap();
        }
    });
}

#[test]
fn narrow_types_come_back_into_f32() {
    once_per_adapter(|rig| {
        let keys = &LayerKeys::default();
        let layer = other(rig, [HIDDEN, INPUTS], [true; 2]);
        let checkpoint = read(rig, &layer.state_dict(keys));
        for (dtype, precision) in
            [(ElementType::F32, 0.0), (ElementType::F16, 2e-3), (ElementType::Bf16, 1e-2)]
        {
            let narrow = checkpoint.clone().with_dtype(dtype).unwrap().to_bytes().unwrap();
            let narrow = Checkpoint::from_bytes(&narrow).unwrap();
            let twin = placed(rig, [HIDDEN, INPUTS], Place::Odd, [true; 2]).layer;
            restore(rig, &narrow, &twin.state_dict(keys)).unwrap();
            for entry in twin.state_dict(keys).iter() {
                let want = checkpoint.values(&entry.key).unwrap();
                let got = rig.get(&entry.matrix);
                assert_eq!(bits(&got), bits(&narrow.values(&entry.key).unwrap()));
                for (got, want) in got.iter().zip(want) {
                    assert!((got - want).abs() <= precision * want.abs(), "{got}, {want}");
                }
            }
        }
    });
}

const SIXTEEN: [ElementType; 2] = [ElementType::F16, ElementType::Bf16];

/// A layer whose weight has a working copy of this type.
fn with_copy(rig: &Rig, [hidden, inputs]: [u32; 2], element: ElementType) -> TiedLinear {
    let options = TiedLinearOptions::new(inputs, hidden)
        .with_weight_element(element)
        .with_fan_in_biases()
        .with_seed(11);
    TiedLinear::new(&rig.kernels, &options).unwrap()
}

/// Fails where the weight is not these f32 values, or its copy not these values rounded.
fn expect_master_and_copy(
    rig: &Rig,
    what: &str,
    weight: &Matrix,
    element: ElementType,
    want: &[f32],
) {
    assert_eq!(weight.layout().element, ElementType::F32, "{what}");
    expect_same_bits(what, &rig.bits(weight), &bits(want));
    let Some(copy) = weight.working_copy() else {
        assert_eq!(element, ElementType::F32, "{what}: no copy");
        return;
    };
    assert_eq!(copy.layout().element, element, "{what}");
    let want: Vec<_> = want.iter().map(|value| element_bits(element, *value)).collect();
    assert_eq!(rig.element_bits(&copy), want, "{what}: the copy");
}

#[test]
fn a_weight_with_a_working_copy_is_stored_as_its_master_and_loaded_into_both() {
    let (keys, f) = (&LayerKeys::default(), [Activation::Tanh, Activation::Identity]);
    once_per_adapter(|rig| {
        for shape in [[HIDDEN, INPUTS], [33, 70], [1, 1], [4, 8]] {
            for element in SIXTEEN {
                let layer = with_copy(rig, shape, element);
                let checkpoint = read(rig, &layer.state_dict(keys));
                assert_eq!(
                    checkpoint.keys().collect::<Vec<_>>(),
                    ["decoder.bias", "encoder.bias", "encoder.weight"]
                );
                let master = checkpoint.values("encoder.weight").unwrap();
                assert_eq!(bits(&master), rig.bits(layer.weight().matrix()));
                // Not the copy's: these are no numbers of 16 bits.
                let rounded = checkpoint.clone().with_dtype(element).unwrap();
                assert_ne!(bits(&master), bits(&rounded.values("encoder.weight").unwrap()));
                for dtype in ElementType::ALL {
                    let file = checkpoint.clone().with_dtype(dtype).unwrap().to_bytes().unwrap();
                    let file = Checkpoint::from_bytes(&file).unwrap();
                    let want = file.values("encoder.weight").unwrap();
                    for target in ElementType::ALL {
                        let what = &format!("{shape:?}: {element} as {dtype} into {target}");
                        let twin = with_copy(rig, shape, target);
                        let zeros = vec![0.0; want.len()];
                        let weight = twin.weight().matrix();
                        weight.write(&rig.gpu.device, &rig.gpu.queue, &zeros).unwrap();
                        restore(rig, &file, &twin.state_dict(keys)).expect(what);
                        expect_master_and_copy(rig, what, weight, target, &want);
                        let (kernels, queue) = (&rig.kernels, &rig.gpu.queue);
                        let made = file.tied_layer_as(kernels, queue, keys, f, target).unwrap();
                        expect_master_and_copy(rig, what, made.weight().matrix(), target, &want);
                        assert_eq!(
                            state_bits(rig, &made.state_dict(keys)),
                            state_bits(rig, &twin.state_dict(keys)),
                            "{what}"
                        );
                        let halves = file.untied_halves_as(kernels, queue, keys, f, target);
                        let (encoder, decoder) = halves.unwrap();
                        assert!(!encoder.weight().is_tied_to(decoder.weight()), "{what}");
                        for weight in [encoder.weight(), decoder.weight()] {
                            expect_master_and_copy(rig, what, weight.matrix(), target, &want);
                        }
                    }
                    // What has no `_as` is f32.
                    let made = file.tied_layer(&rig.kernels, &rig.gpu.queue, keys, f).unwrap();
                    assert_eq!(made.weight().matrix().working_copy(), None);
                }
            }
        }
    });
}

#[test]
fn a_number_that_a_working_copy_cannot_hold_is_refused_and_nothing_written() {
    let (keys, f) = (&LayerKeys::default(), [Activation::Identity; 2]);
    once_per_adapter(|rig| {
        let (kernels, queue) = (&rig.kernels, &rig.gpu.queue);
        // The largest that are rounded to finite ones, and what is not finite anyway, are taken.
        for (element, wrong, right) in [
            (ElementType::F16, 65520.0, 65519.0),
            (ElementType::F16, -1e9, -65519.0),
            (ElementType::F16, f32::MAX, f32::INFINITY),
            (ElementType::Bf16, f32::MAX, 3.39e38),
            (ElementType::Bf16, f32::MIN, f32::NEG_INFINITY),
        ] {
            let what = &format!("{wrong} into {element}");
            let layer = with_copy(rig, [2, 3], element);
            let (state, weight) = (layer.state_dict(keys), layer.weight().matrix());
            let copy = weight.working_copy().unwrap();
            let before = (state_bits(rig, &state), rig.element_bits(&copy));
            let checkpoint = read(rig, &other(rig, [2, 3], [true; 2]).state_dict(keys));
            let of = |value| vec![1.0, -2.0, 0.5, 3.0, value, 0.25];
            // The encoder's own, or that of which it is the transpose.
            for (key, given) in [("encoder.weight", [2, 3]), ("decoder.weight", [3, 2])] {
                let with = |value| {
                    let mut checkpoint = checkpoint.clone();
                    checkpoint.retain(|key| !key.ends_with("weight"));
                    checkpoint.with_tensor(key, &given, &of(value)).unwrap()
                };
                let error = restore(rig, &with(wrong), &state).expect_err(what);
                let expected = "numbers that its matrix's working copy can hold";
                let want = Error::KeyValue { key: key.into(), expected, given: wrong.into() };
                assert_eq!(error, want, "{what}");
                expect_named(Err::<(), _>(error), key, "working copy");
                assert_eq!((state_bits(rig, &state), rig.element_bits(&copy)), before, "{what}");
                let made = with(wrong).tied_layer_as(kernels, queue, keys, f, element);
                assert_eq!(made.map(drop), Err(want), "{what}");
                with(wrong).tied_layer(kernels, queue, keys, f).expect(what);
                with(right).tied_layer_as(kernels, queue, keys, f, element).expect(what);
            }
            let checkpoint = checkpoint.with_tensor("encoder.weight", &[2, 3], &of(right)).unwrap();
            restore(rig, &checkpoint, &state).expect(what);
            expect_master_and_copy(rig, what, weight, element, &of(right));
        }
    });
}

#[test]
fn the_layers_of_a_stack_share_a_file() {
    once_per_adapter(|rig| {
        let sizes = [[4, 6], [2, 4]];
        let stack = |layers: &[TiedLinear]| {
            layers.iter().enumerate().fold(StateDict::default(), |state, (index, layer)| {
                let keys = LayerKeys::of_layer(index).with_prefix("model.");
                state.and(layer.state_dict(&keys))
            })
        };
        let layers = sizes.map(|shape| placed(rig, shape, Place::Odd, [true; 2]).layer);
        let bytes = read(rig, &stack(&layers)).to_bytes().unwrap();
        let checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
        let want = [
            "model.decoder.0.bias",
            "model.decoder.1.bias",
            "model.encoder.0.bias",
            "model.encoder.0.weight",
            "model.encoder.1.bias",
            "model.encoder.1.weight",
        ];
        assert_eq!(checkpoint.keys().collect::<Vec<_>>(), want);
        let want = [0, 1]
            .map(|index| ["decoder", "encoder"].map(|side| format!("model.{side}.{index}.weight")));
        assert_eq!(checkpoint.ties().collect::<Vec<_>>(), want);
        let twins = sizes.map(|shape| other(rig, shape, [true; 2]));
        restore(rig, &checkpoint, &stack(&twins)).unwrap();
        assert_eq!(state_bits(rig, &stack(&twins)), state_bits(rig, &stack(&layers)));
        // One layer of it: the rest is unknown, until it is left out.
        let keys = LayerKeys::of_layer(1).with_prefix("model.");
        let one = other(rig, sizes[1], [true; 2]);
        let result = restore(rig, &checkpoint, &one.state_dict(&keys));
        assert_eq!(result, Err(Error::UnknownKey { key: "model.decoder.0.bias".into() }));
        let mut checkpoint = checkpoint;
        checkpoint.retain(|key| key.contains(".1."));
        restore(rig, &checkpoint, &one.state_dict(&keys)).unwrap();
        assert_eq!(rig.bits(one.weight().matrix()), rig.bits(layers[1].weight().matrix()));
    });
}

#[test]
fn a_checkpoint_can_be_read_without_blocking() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        let layer = placed(rig, [HIDDEN, INPUTS], Place::Odd, [true; 2]).layer;
        let state = layer.state_dict(&LayerKeys::default());
        let mut reading = pin!(Checkpoint::read(device, queue, &state));
        let context = &mut Context::from_waker(Waker::noop());
        // Another test may poll the device meanwhile, so this may be ready at once.
        let mut result = reading.as_mut().poll(context);
        if result.is_pending() {
            device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            result = reading.as_mut().poll(context);
        }
        let Poll::Ready(checkpoint) = result else { panic!("one poll was not enough") };
        expect_same("read", &checkpoint.unwrap(), &read(rig, &state));
    });
}

// Errors of loading, after which nothing has been written.

/// Loads into a layer with an optimizer, and fails where that succeeds or anything is changed.
fn expect_untouched(rig: &Rig, what: &str, change: impl FnOnce(Checkpoint) -> Checkpoint) -> Error {
    let source = state_with_adam(rig, &placed(rig, [HIDDEN, INPUTS], Place::Odd, [true; 2]).layer);
    let target = state_with_adam(rig, &other(rig, [HIDDEN, INPUTS], [true; 2]));
    let before = state_bits(rig, &target);
    assert_eq!(before.len(), 12, "{what}");
    let checkpoint = read(rig, &source);
    let error = restore(rig, &change(checkpoint.clone()), &target).expect_err(what);
    assert_eq!(state_bits(rig, &target), before, "{what}");
    // It is the change that made it fail.
    restore(rig, &checkpoint, &target).expect(what);
    assert_ne!(state_bits(rig, &target), before, "{what}");
    error
}

fn state_with_adam(rig: &Rig, layer: &TiedLinear) -> StateDict {
    let settings = AdamSettings::adam(0.1);
    let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
    let state = layer.state_dict(&LayerKeys::default());
    state.clone().and(optimizer.state_dict(&state).unwrap())
}

/// The same checkpoint with the header's text for a key replaced.
fn with_dtype_of(checkpoint: &Checkpoint, key: &str, from: &str, to: &str) -> Checkpoint {
    let bytes = checkpoint.to_bytes().unwrap();
    let (mut header, data) = split(&bytes);
    assert_eq!(header[key]["dtype"], from);
    header[key]["dtype"] = to.into();
    Checkpoint::from_bytes(&raw(&header.to_string(), data)).unwrap()
}

#[test]
fn a_load_that_fails_writes_nothing_and_names_the_key() {
    let all = [
        ("encoder.weight", vec![3, 5]),
        ("encoder.bias", vec![3]),
        ("decoder.bias", vec![5]),
        ("optimizer.exp_avg.encoder.weight", vec![3, 5]),
        ("optimizer.exp_avg_sq.decoder.bias", vec![5]),
        ("optimizer.step.decoder.bias", vec![]),
    ];
    once_per_adapter(|rig| {
        for (name, shape) in &all {
            let key = name.to_string();
            let without = |mut checkpoint: Checkpoint| {
                checkpoint.retain(|other| other != key);
                checkpoint
            };
            let error = expect_untouched(rig, &format!("without {key}"), without);
            assert_eq!(error, Error::MissingKey { key: key.clone() });
            // Other lengths, fewer and more dimensions, and the transpose.
            let longer = shape.iter().map(|n| n + 1).collect::<Vec<_>>();
            let taller = [&[1][..], shape].concat();
            let flat = vec![shape.iter().product::<usize>()];
            let turned = shape.iter().rev().copied().collect::<Vec<_>>();
            for given in [longer, taller, flat, turned, vec![]] {
                if given == *shape {
                    continue;
                }
                let error = expect_untouched(rig, &format!("{key} {given:?}"), |checkpoint| {
                    let values = vec![1.0; given.iter().product()];
                    checkpoint.with_tensor(&key, &given, &values).unwrap()
                });
                let want = Error::KeyShape { key: key.clone(), expected: shape.clone(), given };
                assert_eq!(error, want);
                expect_named(Err::<(), _>(error), &key, &format!("{shape:?}"));
            }
            let [from, to] = if shape.is_empty() { ["I64", "U64"] } else { ["F32", "I32"] };
            let error = expect_untouched(rig, &format!("{key} of {to}"), |checkpoint| {
                with_dtype_of(&checkpoint, &key, from, to)
            });
            assert!(matches!(&error, Error::KeyType { key: named, .. } if *named == key));
            expect_named(Err::<(), _>(error), &key, to);
        }
        let error = expect_untouched(rig, "an unknown key", |checkpoint| {
            checkpoint.with_tensor("encoder.extra", &[], &[1.0]).unwrap()
        });
        assert_eq!(error, Error::UnknownKey { key: "encoder.extra".into() });
        let key = "optimizer.step.decoder.bias";
        for count in [-1.0, 0.5, 4_294_967_296.0, f32::NAN, f32::INFINITY] {
            let error = expect_untouched(rig, &format!("{count} steps"), |checkpoint| {
                checkpoint.with_tensor(key, &[], &[count]).unwrap()
            });
            assert!(
                matches!(&error, Error::KeyValue { given, .. } if given.total_cmp(&count.into()).is_eq())
            );
            expect_named(Err::<(), _>(error), key, "whole number");
        }
    });
}

#[test]
fn negative_and_large_counts_are_refused_as_whole_numbers_too() {
    once_per_adapter(|rig| {
        let count = |value: i64| {
            let header = format!("{{{}}}", entry("n", "I64", "[]", [0, 8]));
            Checkpoint::from_bytes(&raw(&header, &value.to_le_bytes())).unwrap()
        };
        let matrix = rig.put_f32(3, 1, &[9.0; 3], Place::Odd);
        let state = StateDict::default().with("n", &matrix, Form::Count);
        for wrong in [-1, 1 << 32, i64::MIN, i64::MAX] {
            let error = restore(rig, &count(wrong), &state).unwrap_err();
            assert!(matches!(&error, Error::KeyValue { given, .. } if *given == wrong as f64));
            assert_eq!(rig.get(&matrix), [9.0; 3]);
        }
        for right in [0, 1, 16_777_217, (1 << 32) - 1] {
            restore(rig, &count(right), &state).unwrap();
            assert_eq!(rig.bits(&matrix), [right as u32; 3]);
            rig.expect_surroundings_untouched("count", &matrix);
            let back = read(rig, &state).to_bytes().unwrap();
            let (header, data) = split(&back);
            assert_eq!(header["n"]["dtype"], "I64");
            assert_eq!(header["n"]["shape"], serde_json::json!([]));
            assert_eq!(data, right.to_le_bytes());
        }
    });
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    once_per_adapter(|rig| {
        let folder = Folder::new("huge");
        let path = folder.file("f");
        // 4 TiB by its header, a hole on the disk.
        let size = 1_u64 << 42;
        let header =
            format!("{{{}}}", entry("encoder.weight", "F32", "[1048576,1048576]", [0, size]));
        let bytes = raw(&header, &[]);
        fs::write(&path, &bytes).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        if let Err(error) = file.set_len(bytes.len() as u64 + size) {
            println!("NOT RUN: the disk has no files of 4 TiB: {error}");
            return;
        }
        let keys = &LayerKeys::default();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let layer = other(rig, [HIDDEN, INPUTS], [false; 2]);
        let error = restore(rig, &checkpoint, &layer.state_dict(keys)).unwrap_err();
        expect_named(Err::<(), _>(error), "encoder.weight", "[1048576, 1048576]");
        let f = [Activation::Identity; 2];
        let error = checkpoint.tied_layer(&rig.kernels, &rig.gpu.queue, keys, f).unwrap_err();
        assert!(matches!(error, Error::TooManyElements { .. } | Error::Limit { .. }), "{error}");
        // One byte more or less, and the header is not that of this file.
        for length in [size - 1, size + 1] {
            file.set_len(bytes.len() as u64 + length).unwrap();
            assert!(matches!(Checkpoint::open(&path), Err(Error::Malformed { .. })));
        }
    });
}

#[test]
fn a_load_from_a_file_that_shrinks_writes_nothing() {
    once_per_adapter(|rig| {
        let keys = &LayerKeys::default();
        let folder = Folder::new("shrunk-load");
        let path = folder.file("f");
        let source = placed(rig, [HIDDEN, INPUTS], Place::Odd, [true; 2]).layer;
        read(rig, &source.state_dict(keys)).save(&path).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        // The weight's bytes are the last. In this state dict they are asked for last, too.
        let length = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
        let layer = other(rig, [HIDDEN, INPUTS], [true; 2]);
        let [c, b] = [layer.decoder().bias().unwrap(), layer.encoder().bias().unwrap()];
        let state = StateDict::default()
            .with("decoder.bias", c, Form::Vector)
            .with("encoder.bias", b, Form::Vector)
            .with("encoder.weight", layer.weight().matrix(), Form::Matrix)
            .with_tie("decoder.weight", "encoder.weight");
        let before = state_bits(rig, &state);
        let error = restore(rig, &checkpoint, &state).unwrap_err();
        assert!(matches!(error, Error::File { what: "read", .. }), "{error}");
        assert_eq!(state_bits(rig, &state), before);
    });
}

#[test]
fn matrices_that_cannot_be_written_keep_all_as_they_are() {
    once_per_adapter(|rig| {
        let first = rig.kernels.matrix("first", 1, 2, &[1.0, 2.0]).unwrap();
        let source = StateDict::default().with("a", &first, Form::Vector);
        let source = source.with("b", &first, Form::Vector);
        let checkpoint = read(rig, &source).with_tensor("a", &[2], &[5.0, 6.0]).unwrap();
        let into = |second: &Matrix| {
            let state = StateDict::default().with("a", &first, Form::Vector);
            restore(rig, &checkpoint, &state.with("b", second, Form::Vector))
        };
        let without = USAGES - wgpu::BufferUsages::COPY_DST;
        let fixed = Matrix::new(&buffer(&rig.gpu.device, 8, without), 1, 2).unwrap();
        let needed = wgpu::BufferUsages::COPY_DST;
        let want = Error::Usage { operand: "matrix", needed, given: without };
        assert_eq!(into(&fixed), Err(want));
        let destroyed = rig.kernels.zeros("destroyed", 1, 2).unwrap();
        destroyed.buffer().destroy();
        let limits = rig.gpu.device.limits();
        let twin = rig.with_device(rig.gpu.device.features(), limits);
        let foreign = twin.kernels.zeros("foreign", 1, 2).unwrap();
        for (what, second) in [("destroyed", destroyed), ("foreign", foreign)] {
            assert!(matches!(into(&second), Err(Error::Refused { .. })), "{what}");
            assert_eq!(rig.get(&first), [1.0, 2.0], "{what}");
        }
        let good = rig.kernels.zeros("good", 1, 2).unwrap();
        into(&good).unwrap();
        assert_eq!([rig.get(&first), rig.get(&good)], [[5.0, 6.0], [1.0, 2.0]]);
        // Nor is anything read of a matrix that cannot be.
        let hidden = USAGES - wgpu::BufferUsages::COPY_SRC;
        let hidden = Matrix::new(&buffer(&rig.gpu.device, 8, hidden), 1, 2).unwrap();
        let state = StateDict::default().with("a", &hidden, Form::Vector);
        let result = Checkpoint::read_blocking(&rig.gpu.device, &rig.gpu.queue, &state);
        assert!(matches!(result, Err(Error::Usage { .. })));
    });
}

#[test]
fn a_state_dict_that_contradicts_itself_is_refused() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        let matrix = rig.kernels.zeros("m", 2, 3).unwrap();
        let state = || StateDict::default().with("w", &matrix, Form::Matrix);
        let twice = |key: &str| Error::KeyTwice { key: key.into() };
        let shape = |operand, expected| Error::Shape { operand, expected, given: [2, 3] };
        for (state, want) in [
            (state().with("w", &matrix, Form::Matrix), twice("w")),
            (state().with_tie("w", "w"), twice("w")),
            (state().with_tie("v", "w").with_tie("v", "w"), twice("v")),
            (state().with_tie("v", "u"), Error::MissingKey { key: "u".into() }),
            (state().with("b", &matrix, Form::Vector), shape("bias", [1, 3])),
            (state().with("n", &matrix, Form::Count), shape("count", [2, 1])),
            (state().with("s", &matrix, Form::Scale), shape("scale", [1, 1])),
        ] {
            let result = Checkpoint::read_blocking(device, queue, &state).map(drop);
            assert_eq!(result, Err(want.clone()));
            assert_eq!(restore(rig, &Checkpoint::default(), &state), Err(want));
        }
        let layer = other(rig, [HIDDEN, INPUTS], [true; 2]);
        let parameters = layer.parameters();
        let optimizer = Optimizer::new(&rig.kernels, &parameters, AdamSettings::adam(0.1)).unwrap();
        let encoder = layer.encoder().state_dict(&LayerKeys::default());
        let want = Error::NoKey { parameter: "decoder bias".into() };
        assert_eq!(optimizer.state_dict(&encoder), Err(want));
    });
}

#[test]
fn messages_say_what_was_expected_and_what_was_given() {
    let [key, other] = ["a.key", "another.key"].map(String::from);
    let given = || "given".to_string();
    let cases: [(Error, &[&str]); 12] = [
        (Error::MissingKey { key: key.clone() }, &["`a.key`", "no tensor"]),
        (Error::UnknownKey { key: key.clone() }, &["`a.key`", "nothing asks for"]),
        (Error::KeyTwice { key: key.clone() }, &["`a.key`", "twice"]),
        (Error::NoKey { parameter: "weight".into() }, &["`weight`", "key"]),
        (
            Error::KeyShape { key: key.clone(), expected: vec![3, 5], given: vec![] },
            &["`a.key`", "[3, 5]", "[]"],
        ),
        (
            Error::KeyType { key: key.clone(), expected: "f32", given: given() },
            &["`a.key`", "f32", "given"],
        ),
        (
            Error::KeyValue { key: key.clone(), expected: "a count", given: -1.5 },
            &["`a.key`", "a count", "-1.5"],
        ),
        (
            Error::NotTransposed {
                key: key.clone(),
                of: other.clone(),
                row: 4,
                column: 7,
                given: [0.5, 0.25],
            },
            &["`a.key`", "`another.key`", "row 4", "column 7", "0.5", "0.25", "untied_halves"],
        ),
        (
            Error::OtherTie { key: key.clone(), expected: other, given: given() },
            &["`a.key`", "`another.key`", "`given`"],
        ),
        (Error::Malformed { part: key, reason: given() }, &["`a.key`", "given"]),
        (Error::CheckpointVersion { known: 1, given: "2".into() }, &["version 1", "\"2\""]),
        (
            Error::File {
                path: "a/path".into(),
                what: "saved",
                kind: ErrorKind::NotFound,
                description: given(),
            },
            &["`a/path`", "saved", "given"],
        ),
    ];
    for (error, parts) in cases {
        let message = error.to_string();
        for part in parts {
            assert!(message.contains(part), "\"{part}\" is not in \"{message}\"");
        }
    }
}

// Optimizers.

/// A layer, its optimizer and a training step.
struct Training {
    state: StateDict,
    optimizer: Optimizer,
    step: TrainingStep,
}

impl Training {
    fn new(
        rig: &Rig,
        [hidden, inputs]: [u32; 2],
        settings: OptimizerSettings,
        fused: bool,
        seed: u64,
    ) -> Self {
        let options = TiedLinearOptions::new(inputs, hidden)
            .with_activations(Activation::Tanh, Activation::Identity)
            .with_fan_in_biases()
            .with_seed(seed);
        let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
        let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        let x = rig.put(&random(9, inputs, 5), Place::Tight);
        let options = TrainingOptions::default().with_fused_update(fused);
        let step = TrainingStep::new(&layer, &optimizer, &gradients, &x, &x, options).unwrap();
        let state = layer.state_dict(&LayerKeys::default());
        let state = state.clone().and(optimizer.state_dict(&state).unwrap());
        Self { state, optimizer, step }
    }

    fn run(&self, rig: &Rig, steps: usize) {
        for _ in 0..steps {
            rig.run(
                &self.step.gradient_commands().clone().then(self.step.update_commands().clone()),
            );
        }
    }
}

#[test]
fn training_resumes_bit_for_bit() {
    let optimizers: [(OptimizerSettings, &[&str]); 6] = [
        (SgdSettings::new(0.1).into(), &[]),
        (SgdSettings::new(0.1).with_momentum(0.9).into(), &["momentum_buffer"]),
        (
            SgdSettings { weight_decay: 0.01, ..SgdSettings::new(0.1) }
                .with_momentum(0.8)
                .with_nesterov(true)
                .into(),
            &["momentum_buffer"],
        ),
        (AdamSettings::adam(0.02).into(), &["exp_avg", "exp_avg_sq", "step"]),
        (
            AdamSettings::adam(0.02).with_weight_decay(0.1).into(),
            &["exp_avg", "exp_avg_sq", "step"],
        ),
        (AdamSettings::adamw(0.02).into(), &["exp_avg", "exp_avg_sq", "step"]),
    ];
    on_every_adapter(|rig| {
        let folder = Folder::new("resumed");
        let path = folder.file("f");
        for (settings, kept) in optimizers {
            // The second weight takes several workgroups; the biases are odd everywhere.
            for (shape, fused) in [([3, 5], false), ([37, 71], false), ([37, 71], true)] {
                let what = &format!("{settings:?}, {shape:?}, fused {fused}");
                let whole = Training::new(rig, shape, settings, fused, 1);
                whole.run(rig, 10);
                let first = Training::new(rig, shape, settings, fused, 1);
                first.run(rig, 5);
                read(rig, &first.state).save(&path).unwrap();
                first.run(rig, 1);
                // Not just fresh: it has taken steps of its own.
                let second = Training::new(rig, shape, settings, fused, 2);
                second.run(rig, 2);
                let checkpoint = Checkpoint::open(&path).unwrap();
                restore(rig, &checkpoint, &second.state).unwrap();
                second.run(rig, 5);
                let [got, want] = [&second, &whole].map(|run| state_bits(rig, &run.state));
                assert_eq!(want.len(), 3 * (1 + kept.len()), "{what}");
                for (key, want) in &want {
                    assert_eq!(got[key], *want, "{what}: {key}");
                }
                expect_kept(what, &checkpoint, kept, shape, &second.optimizer);
            }
        }
    });
}

/// A stack, its optimizer and a training step on noisy input.
struct DeepTraining {
    state: StateDict,
    step: AutoencoderStep,
}

impl DeepTraining {
    fn new(rig: &Rig, stack: TiedAutoencoder, noise: Option<Noise>) -> Self {
        let settings = AdamSettings::adam(0.02);
        let optimizer = Optimizer::new(&rig.kernels, &stack.parameters(), settings).unwrap();
        let gradients = AutoencoderGradients::new(&stack).unwrap();
        let x = rig.put(&random(9, stack.inputs(), 5), Place::Tight);
        let state = stack.state_dict();
        let mut state = state.clone().and(optimizer.state_dict(&state).unwrap());
        let mut options = AutoencoderStepOptions::default();
        if let Some(noise) = noise {
            let of_noise = NoiseState::new(&rig.kernels, 9, stack.inputs(), 7).unwrap();
            options = options.with_noise(noise, &of_noise);
            state = state.with("noise.step", of_noise.steps(), Form::Count);
        }
        let step = AutoencoderStep::new(&stack, &optimizer, &gradients, &x, &x, &options).unwrap();
        Self { state, step }
    }

    fn run(&self, rig: &Rig, steps: usize) {
        for _ in 0..steps {
            rig.run(
                &self.step.gradient_commands().clone().then(self.step.update_commands().clone()),
            );
        }
    }
}

fn some_stack(rig: &Rig, seed: u64) -> TiedAutoencoder {
    let options = TiedAutoencoderOptions::new(&[71, 37, 5])
        .with_activations(Activation::Tanh, Activation::Silu)
        .with_output_activation(Activation::Identity)
        .with_fan_in_biases()
        .with_seed(seed);
    TiedAutoencoder::new(&rig.kernels, &options).unwrap()
}

/// A stack 6→6→6 whose layers have one weight, and biases of their own.
fn with_one_weight(rig: &Rig, seed: u64) -> TiedAutoencoder {
    let outer = other(rig, [6, 6], [true; 2]);
    let weight = outer.weight();
    let values = values_of(6, 6, seed);
    weight.matrix().write(&rig.gpu.device, &rig.gpu.queue, &values).unwrap();
    let [b, c] = [1, 2].map(|more| rig.put(&random(1, 6, seed + more), Place::Tight));
    let inner = TiedLinear::from_halves(
        Encoder::new(&rig.kernels, weight, Some(b), Activation::Tanh).unwrap(),
        Decoder::new(&rig.kernels, weight, Some(c), Activation::Tanh).unwrap(),
    );
    TiedAutoencoder::from_layers(vec![outer, inner.unwrap()]).unwrap()
}

/// 5 steps, a file, and 5 more in a run that had been elsewhere, against 10.
fn expect_resumed(
    rig: &Rig,
    folder: &str,
    stack: impl Fn(u64) -> TiedAutoencoder,
    noise: Option<Noise>,
) -> Checkpoint {
    let what = format!("{folder}, {noise:?}");
    let folder = Folder::new(folder);
    let path = folder.file("f");
    let whole = DeepTraining::new(rig, stack(1), noise);
    whole.run(rig, 5);
    read(rig, &whole.state).save(&path).unwrap();
    whole.run(rig, 5);
    let second = DeepTraining::new(rig, stack(2), noise);
    second.run(rig, 2);
    let checkpoint = Checkpoint::open(&path).unwrap();
    restore(rig, &checkpoint, &second.state).unwrap();
    second.run(rig, 5);
    let [got, want] = [&second, &whole].map(|run| state_bits(rig, &run.state));
    assert_eq!(got.len(), want.len(), "{what}");
    for (key, want) in &want {
        assert_eq!(got[key], *want, "{what}: {key}");
    }
    checkpoint
}

#[test]
fn a_stack_resumes_bit_for_bit_and_so_does_its_noise() {
    on_every_adapter(|rig| {
        let masking = Noise::Masking { probability: 0.3 };
        for noise in [None, Some(masking), Some(Noise::Gaussian { deviation: 0.1 })] {
            let what = format!("{noise:?}");
            let checkpoint = expect_resumed(rig, "stack", |seed| some_stack(rig, seed), noise);
            let ties =
                [0, 1].map(|i| [format!("decoder.{i}.weight"), format!("encoder.{i}.weight")]);
            let found: Vec<_> = checkpoint.ties().map(|pair| pair.map(String::from)).collect();
            assert_eq!(found, ties, "{what}");
            assert_eq!(checkpoint.shape("encoder.1.weight"), Some(&[5, 37][..]), "{what}");
            assert_eq!(checkpoint.keys().any(|key| key == "noise.step"), noise.is_some(), "{what}");
        }
    });
}

#[test]
fn a_weight_that_a_stack_has_twice_is_stored_once() {
    on_every_adapter(|rig| {
        let stack = |seed| with_one_weight(rig, seed);
        let checkpoint = expect_resumed(rig, "one-weight", stack, None);
        let is_of_stack = |key: &&str| !key.starts_with("optimizer.");
        let keys: Vec<_> = checkpoint.keys().filter(is_of_stack).collect();
        let want = [
            "decoder.0.bias",
            "decoder.1.bias",
            "encoder.0.bias",
            "encoder.0.weight",
            "encoder.1.bias",
        ];
        assert_eq!(keys, want);
        let moments = checkpoint.keys().filter(|key| key.starts_with("optimizer.exp_avg."));
        assert_eq!(moments.count(), want.len());
        assert_eq!(checkpoint.ties().collect::<Vec<_>>(), [["decoder.0.weight", want[3]]]);
        // The same layer twice: nothing is left of the second.
        let layer = other(rig, [6, 6], [true; 2]);
        let twice = TiedAutoencoder::from_layers(vec![layer.clone(), layer.clone()]).unwrap();
        assert_eq!(twice.state_dict(), layer.state_dict(&LayerKeys::of_layer(0)));
    });
}

/// Fails where a checkpoint after five steps does not hold just this of each parameter, in its shape.
fn expect_kept(
    what: &str,
    checkpoint: &Checkpoint,
    kept: &[&str],
    [hidden, inputs]: [u32; 2],
    optimizer: &Optimizer,
) {
    let shapes =
        [vec![hidden as usize, inputs as usize], vec![hidden as usize], vec![inputs as usize]];
    let mut keys = Vec::new();
    for (key, shape) in KEYS.iter().zip(shapes) {
        keys.push(key.to_string());
        for name in kept {
            let kept = format!("optimizer.{name}.{key}");
            let is_step = *name == "step";
            let want = if is_step { vec![] } else { shape.clone() };
            assert_eq!(checkpoint.shape(&kept), Some(&want[..]), "{what}: {kept}");
            if !is_step {
                let values = checkpoint.values(&kept).unwrap();
                assert!(values.iter().any(|value| *value != 0.0), "{what}: {kept}");
            }
            keys.push(kept);
        }
    }
    keys.sort();
    assert_eq!(checkpoint.keys().collect::<Vec<_>>(), keys, "{what}");
    let bytes = checkpoint.to_bytes().unwrap();
    let (header, data) = split(&bytes);
    for (_, state) in optimizer.states() {
        if let OptimizerState::Adam(_) = state {
            let at = header["optimizer.step.encoder.weight"]["data_offsets"][0].as_u64().unwrap();
            assert_eq!(data[at as usize..][..8], 5_i64.to_le_bytes(), "{what}");
        }
    }
}

#[test]
fn the_state_of_one_optimizer_is_not_taken_for_anothers() {
    once_per_adapter(|rig| {
        let new = |settings| Training::new(rig, [3, 5], settings, false, 1);
        let plain = new(SgdSettings::new(0.1).into());
        let momentum = new(SgdSettings::new(0.1).with_momentum(0.9).into());
        let adam = new(AdamSettings::adam(0.1).into());
        let missing =
            |what: &str| Err(Error::MissingKey { key: format!("optimizer.{what}.encoder.weight") });
        let unknown =
            |what: &str| Err(Error::UnknownKey { key: format!("optimizer.{what}.decoder.bias") });
        let load =
            |from: &Training, to: &Training| restore(rig, &read(rig, &from.state), &to.state);
        assert_eq!(load(&plain, &momentum), missing("momentum_buffer"));
        assert_eq!(load(&plain, &adam), missing("exp_avg"));
        assert_eq!(load(&adam, &momentum), missing("momentum_buffer"));
        assert_eq!(load(&momentum, &adam), missing("exp_avg"));
        assert_eq!(load(&momentum, &plain), unknown("momentum_buffer"));
        assert_eq!(load(&adam, &plain), unknown("exp_avg"));
        // The layer alone is for all.
        let layer = read(rig, &adam.state).without_optimizer();
        restore(rig, &layer, &plain.state).unwrap();
    });
}

const FIRST_SCALE: f64 = 16_777_216.0;

/// The scale of [`Scaled`]: it starts where gradients of f16 overflow, and soon gets there again.
fn some_scale() -> LossScaleSettings {
    LossScaleSettings::dynamic()
        .with_range([1.0, 2f64.powi(40)])
        .with_initial(FIRST_SCALE)
        .with_factors(8.0, 0.5)
        .with_interval(4)
}

/// A training in f16 whose loss is scaled: of a layer, or of a stack.
struct Scaled {
    state: StateDict,
    optimizer: Optimizer,
    gradients: Commands,
    update: Commands,
}

impl Scaled {
    /// `scale` is none for training without one.
    fn layer(rig: &Rig, scale: Option<LossScaleSettings>, seed: u64) -> Self {
        let options = TiedLinearOptions::new(71, 37)
            .with_activations(Activation::Tanh, Activation::Identity)
            .with_weight_element(ElementType::F16)
            .with_fan_in_biases()
            .with_seed(seed);
        let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
        let optimizer = scaled_optimizer(rig, &layer.parameters(), scale);
        let gradients = Gradients::new_as(&layer, ElementType::F16).unwrap();
        let x = rig.put_as(&random(9, 71, 5), Place::Tight, ElementType::F16);
        let options = TrainingOptions::default().with_elements(ElementTypes::all(ElementType::F16));
        let step = TrainingStep::new(&layer, &optimizer, &gradients, &x, &x, options).unwrap();
        let commands = [step.gradient_commands(), step.update_commands()];
        Self::new(layer.state_dict(&LayerKeys::default()), optimizer, commands)
    }

    fn stack(rig: &Rig, scale: Option<LossScaleSettings>, seed: u64) -> Self {
        let options = TiedAutoencoderOptions::new(&[71, 37, 5])
            .with_activations(Activation::Tanh, Activation::Silu)
            .with_output_activation(Activation::Identity)
            .with_weight_element(ElementType::F16)
            .with_fan_in_biases()
            .with_seed(seed);
        let stack = TiedAutoencoder::new(&rig.kernels, &options).unwrap();
        let optimizer = scaled_optimizer(rig, &stack.parameters(), scale);
        let gradients = AutoencoderGradients::new_as(&stack, ElementType::F16).unwrap();
        let x = rig.put_as(&random(9, 71, 5), Place::Tight, ElementType::F16);
        let options =
            AutoencoderStepOptions::default().with_elements(ElementTypes::all(ElementType::F16));
        let step = AutoencoderStep::new(&stack, &optimizer, &gradients, &x, &x, &options).unwrap();
        let commands = [step.gradient_commands(), step.update_commands()];
        Self::new(stack.state_dict(), optimizer, commands)
    }

    fn new(parameters: StateDict, optimizer: Optimizer, commands: [&Commands; 2]) -> Self {
        let state = optimizer.state_dict(&parameters).unwrap();
        let [gradients, update] = commands.map(Clone::clone);
        Self { state: parameters.and(state), optimizer, gradients, update }
    }

    fn run(&self, rig: &Rig, steps: usize) {
        for _ in 0..steps {
            rig.run(&self.gradients.clone().then(self.update.clone()));
        }
    }

    fn status(&self, rig: &Rig) -> LossScaleStatus {
        let scale = self.optimizer.loss_scale().unwrap();
        scale.read_blocking(&rig.gpu.device, &rig.gpu.queue).unwrap()
    }

    /// The bits of all working copies.
    fn copies(&self, rig: &Rig) -> Vec<Vec<u16>> {
        let copies = self.state.iter().filter_map(|entry| entry.matrix.working_copy());
        copies.map(|copy| rig.element_bits(&copy)).collect()
    }
}

fn scaled_optimizer(
    rig: &Rig,
    parameters: &Parameters,
    scale: Option<LossScaleSettings>,
) -> Optimizer {
    let optimizer = Optimizer::new(&rig.kernels, parameters, AdamSettings::adam(0.02)).unwrap();
    match scale {
        Some(settings) => {
            optimizer.with_loss_scale(LossScale::new(&rig.kernels, settings).unwrap())
        }
        None => optimizer,
    }
}

#[test]
fn training_with_a_scaled_loss_resumes_bit_for_bit() {
    type Make = fn(&Rig, Option<LossScaleSettings>, u64) -> Scaled;
    let makes: [(&str, Make); 2] = [("layer", Scaled::layer), ("stack", Scaled::stack)];
    on_every_adapter(|rig| {
        let folder = Folder::new("scaled");
        let path = folder.file("f");
        for (what, make) in makes {
            let whole = make(rig, Some(some_scale()), 1);
            whole.run(rig, 5);
            let half = whole.status(rig);
            read(rig, &whole.state).save(&path).unwrap();
            whole.run(rig, 5);
            let end = whole.status(rig);
            println!("{what}: {half:?}, {end:?}");
            // On the way steps are skipped, the scale changes, and the file is of a moment in between.
            assert!(half.skipped > 0 && half.good_steps > 0, "{what}: {half:?}");
            assert!(end.skipped > half.skipped, "{what}: {half:?}, {end:?}");
            assert!(half.scale < FIRST_SCALE as f32 && half.scale != end.scale, "{what}: {half:?}");
            let second = make(rig, Some(some_scale().with_initial(1.0)), 2);
            second.run(rig, 2);
            let checkpoint = Checkpoint::open(&path).unwrap();
            restore(rig, &checkpoint, &second.state).unwrap();
            assert_eq!(second.status(rig), half, "{what}");
            second.run(rig, 5);
            assert_eq!(second.status(rig), end, "{what}");
            let [got, want] = [&second, &whole].map(|run| state_bits(rig, &run.state));
            assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{what}");
            for (key, want) in &want {
                assert_eq!(got[key], *want, "{what}: {key}");
            }
            assert!(!whole.copies(rig).is_empty());
            assert!(second.copies(rig) == whole.copies(rig), "{what}: the copies differ");
        }
    });
}

const SCALE_KEYS: [&str; 3] = [
    "optimizer.loss_scale.good_steps",
    "optimizer.loss_scale.scale",
    "optimizer.loss_scale.skipped",
];

#[test]
fn a_scale_of_the_loss_is_part_of_an_optimizers_state() {
    once_per_adapter(|rig| {
        let with = Scaled::layer(rig, Some(some_scale()), 1);
        let without = Scaled::layer(rig, None, 1);
        let is_of_scale = |key: &&str| key.starts_with("optimizer.loss_scale");
        with.run(rig, 5);
        let (checkpoint, other) = (read(rig, &with.state), read(rig, &without.state));
        let keys: Vec<_> = checkpoint.keys().filter(is_of_scale).collect();
        assert_eq!(keys, SCALE_KEYS);
        assert_eq!(checkpoint.keys().count(), 12 + 3);
        assert_eq!(other.keys().count(), 12);
        assert_eq!(other.keys().filter(is_of_scale).count(), 0);
        // In the file they are what the GPU says, whatever the type that the weights are saved in.
        let LossScaleStatus { scale, good_steps, skipped } = with.status(rig);
        assert!(good_steps > 0 && skipped > 0 && good_steps != skipped);
        for dtype in ElementType::ALL {
            let bytes = checkpoint.clone().with_dtype(dtype).unwrap().to_bytes().unwrap();
            let (header, data) = split(&bytes);
            let counts = [good_steps, skipped].map(|n| i64::from(n).to_le_bytes().to_vec());
            let [good_steps, skipped] = counts;
            let values = [good_steps, scale.to_le_bytes().to_vec(), skipped];
            for ((key, dtype), value) in SCALE_KEYS.iter().zip(["I64", "F32", "I64"]).zip(values) {
                assert_eq!(header[key]["dtype"], dtype, "{key}");
                assert_eq!(header[key]["shape"], serde_json::json!([]), "{key}");
                let at = header[key]["data_offsets"][0].as_u64().unwrap() as usize;
                assert_eq!(data[at..][..value.len()], value, "{key}");
            }
        }
        // Neither is taken for the other, until the keys are left out.
        let result = restore(rig, &checkpoint, &without.state);
        assert_eq!(result, Err(Error::UnknownKey { key: SCALE_KEYS[0].into() }));
        let result = restore(rig, &other, &with.state);
        assert_eq!(result, Err(Error::MissingKey { key: SCALE_KEYS[1].into() }));
        let mut rest = checkpoint.clone();
        rest.retain(|key| !key.starts_with("optimizer.loss_scale"));
        restore(rig, &rest, &without.state).unwrap();
        assert_eq!(read(rig, &without.state).to_bytes().unwrap(), rest.to_bytes().unwrap());
        // One of the three alone is missing, or none; wrong numbers and types are refused.
        let before = state_bits(rig, &with.state);
        for key in SCALE_KEYS {
            let mut rest = checkpoint.clone();
            rest.retain(|other| other != key);
            let want = Error::MissingKey { key: key.into() };
            assert_eq!(restore(rig, &rest, &with.state), Err(want));
            let long = checkpoint.clone().with_tensor(key, &[1], &[1.0]).unwrap();
            let (expected, given) = (vec![], vec![1]);
            let want = Error::KeyShape { key: key.into(), expected, given };
            assert_eq!(restore(rig, &long, &with.state), Err(want));
        }
        let [_, key, count] = SCALE_KEYS;
        for wrong in [0.0, -0.0, -8.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 1e38] {
            let wrong = checkpoint.clone().with_tensor(key, &[], &[wrong]).unwrap();
            expect_named(restore(rig, &wrong, &with.state), key, "a finite scale above 0");
        }
        let wrong = with_dtype_of(&checkpoint, key, "F32", "I32");
        expect_named(restore(rig, &wrong, &with.state), key, "I32");
        let wrong = checkpoint.clone().with_tensor(count, &[], &[-1.0]).unwrap();
        expect_named(restore(rig, &wrong, &with.state), count, "whole number");
        assert_eq!(state_bits(rig, &with.state), before);
    });
}

// Files of PyTorch.

fn of_pytorch(name: &str) -> Checkpoint {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    Checkpoint::open(folder.join(format!("{name}.safetensors"))).expect(name)
}

/// What make.py puts into the files.
fn pytorch_values() -> [Vec<f32>; 3] {
    let weight = (0..15).map(|n| (n as f32 - 7.0) / 8.0).collect();
    [weight, vec![0.5, -0.25, 1.0], vec![1.0, -2.0, 0.125, 3.0, -0.0]]
}

fn expect_values(rig: &Rig, what: &str, layer: &TiedLinear, want: &[Vec<f32>; 3]) {
    let matrices =
        [layer.weight().matrix(), layer.encoder().bias().unwrap(), layer.decoder().bias().unwrap()];
    for (matrix, want) in matrices.iter().zip(want) {
        for (got, want) in rig.get(matrix).iter().zip(want) {
            let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            assert!(same, "{what}: {got}, {want}");
        }
    }
}

#[test]
fn state_dicts_of_pytorch_are_taken() {
    let decoder_bias = || LayerKeys { decoder_bias: "decoder_bias".into(), ..Default::default() };
    let encoder_bias = || LayerKeys { encoder_bias: "encoder_bias".into(), ..Default::default() };
    let special = |large: f32, small: f32| {
        let [weight, b, _] = pytorch_values();
        [weight, b, vec![large, small, -0.0, f32::INFINITY, f32::NAN]]
    };
    once_per_adapter(|rig| {
        for (name, keys, want) in [
            ("one_weight", decoder_bias(), pytorch_values()),
            ("both_equal", LayerKeys::default(), pytorch_values()),
            ("decoder_owns", encoder_bias(), pytorch_values()),
            ("both_f16", LayerKeys::default(), special(65504.0, 2.0_f32.powi(-24))),
            (
                "both_bf16",
                LayerKeys::default(),
                special(2.0_f32.powi(127), f32::from_bits(1 << 16)),
            ),
        ] {
            let checkpoint = of_pytorch(name);
            let layer = other(rig, [HIDDEN, INPUTS], [true; 2]);
            restore(rig, &checkpoint, &layer.state_dict(&keys)).expect(name);
            expect_values(rig, name, &layer, &want);
            let f = [Activation::Tanh, Activation::Identity];
            let made = checkpoint.tied_layer(&rig.kernels, &rig.gpu.queue, &keys, f).expect(name);
            expect_values(rig, name, &made, &want);
        }
        let layer = other(rig, [HIDDEN, INPUTS], [true; 2]);
        let state = layer.state_dict(&decoder_bias());
        let error = restore(rig, &of_pytorch("whole_numbers"), &state).unwrap_err();
        expect_named(Err::<(), _>(error), "encoder.weight", "I64");
    });
}

#[test]
fn weights_that_differ_are_not_tied_but_loaded_apart() {
    once_per_adapter(|rig| {
        let (keys, f) = (&LayerKeys::default(), [Activation::Tanh, Activation::Identity]);
        let (kernels, queue) = (&rig.kernels, &rig.gpu.queue);
        let checkpoint = of_pytorch("both_different");
        let layer = other(rig, [HIDDEN, INPUTS], [true; 2]);
        let before = state_bits(rig, &layer.state_dict(keys));
        let want = Error::NotTransposed {
            key: "decoder.weight".into(),
            of: "encoder.weight".into(),
            row: 4,
            column: 1,
            given: [1.25, 0.25],
        };
        assert_eq!(restore(rig, &checkpoint, &layer.state_dict(keys)), Err(want.clone()));
        assert_eq!(state_bits(rig, &layer.state_dict(keys)), before);
        let error = checkpoint.tied_layer(kernels, queue, keys, f).unwrap_err();
        assert_eq!(error, want);
        let message = error.to_string();
        for part in
            ["`decoder.weight`", "`encoder.weight`", "row 4, column 1", "1.25", "untied_halves"]
        {
            assert!(message.contains(part), "\"{part}\" is not in \"{message}\"");
        }
        let (encoder, decoder) = checkpoint.untied_halves(kernels, queue, keys, f).unwrap();
        let [weight, b, c] = pytorch_values();
        assert_eq!(rig.get(encoder.weight().matrix()), weight);
        // W[1][4] is Wᵀ[4][1].
        let mut other_weight = weight.clone();
        other_weight[5 + 4] += 1.0;
        assert_eq!(rig.get(decoder.weight().matrix()), other_weight);
        assert_eq!(decoder.weight().matrix().shape(), [HIDDEN, INPUTS]);
        assert_eq!([encoder.bias(), decoder.bias()].map(|bias| rig.get(bias.unwrap())), [b, c]);
        assert_eq!([encoder.activation(), decoder.activation()], f);
        assert_eq!(
            TiedLinear::from_halves(encoder.clone(), decoder.clone()).err(),
            Some(Error::NotTied)
        );
        // Saved again, they are two tensors, in PyTorch's layout.
        let state = encoder.state_dict(keys).and(decoder.state_dict(keys));
        let again = read(rig, &state);
        assert_eq!(again.ties().count(), 0);
        expect_same("untied", &again, &checkpoint);
    });
}

#[test]
fn a_tied_file_gives_equal_halves_and_a_sign_of_zero_unties() {
    once_per_adapter(|rig| {
        let (keys, f) = (&LayerKeys::default(), [Activation::Identity; 2]);
        let layer = placed(rig, [HIDDEN, INPUTS], Place::Odd, [true, false]).layer;
        let checkpoint = read(rig, &layer.state_dict(keys));
        let checkpoint = Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()).unwrap();
        let halves = checkpoint.untied_halves(&rig.kernels, &rig.gpu.queue, keys, f);
        let (encoder, decoder) = halves.unwrap();
        let want = rig.bits(layer.weight().matrix());
        assert_eq!(rig.bits(encoder.weight().matrix()), want);
        assert_eq!(rig.bits(decoder.weight().matrix()), want);
        assert!(!encoder.weight().is_tied_to(decoder.weight()));
        assert!(encoder.bias().is_some() && decoder.bias().is_none());
        // Equal as numbers is not equal bit for bit.
        let zero = Checkpoint::default().with_tensor("encoder.weight", &[1, 1], &[0.0]).unwrap();
        let zero = zero.with_tensor("decoder.weight", &[1, 1], &[-0.0]).unwrap();
        let error = zero.tied_layer(&rig.kernels, &rig.gpu.queue, keys, f).unwrap_err();
        assert!(matches!(error, Error::NotTransposed { row: 0, column: 0, .. }), "{error}");
        // A weight without another is not loaded as two.
        let one = Checkpoint::default().with_tensor("encoder.weight", &[1, 1], &[0.0]).unwrap();
        let error = one.untied_halves(&rig.kernels, &rig.gpu.queue, keys, f).unwrap_err();
        assert_eq!(error, Error::MissingKey { key: "decoder.weight".into() });
        // No weight, and one of three dimensions.
        let none = Checkpoint::default().tied_layer(&rig.kernels, &rig.gpu.queue, keys, f);
        assert_eq!(none.unwrap_err(), Error::MissingKey { key: "encoder.weight".into() });
        let cube = Checkpoint::default().with_tensor("encoder.weight", &[1, 1, 1], &[0.0]).unwrap();
        let cube = cube.tied_layer(&rig.kernels, &rig.gpu.queue, keys, f).unwrap_err();
        expect_named(Err::<(), _>(cube), "encoder.weight", "[1, 1, 1]");
    });
}

#[test]
fn the_twin_of_a_weight_must_fit_and_ties_must_agree() {
    once_per_adapter(|rig| {
        let keys = &LayerKeys::default();
        let layer = other(rig, [2, 3], [false; 2]);
        let state = layer.state_dict(keys);
        let before = state_bits(rig, &state);
        let weight = Checkpoint::default()
            .with_tensor("encoder.weight", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
            .unwrap();
        // Not transposed, as it would be in another convention.
        let turned = weight.clone().with_tensor("decoder.weight", &[2, 3], &[0.0; 6]).unwrap();
        let want = Error::KeyShape {
            key: "decoder.weight".into(),
            expected: vec![3, 2],
            given: vec![2, 3],
        };
        assert_eq!(restore(rig, &turned, &state), Err(want));
        let twin = weight
            .clone()
            .with_tensor("decoder.weight", &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
            .unwrap();
        let whole = with_dtype_of(&twin, "decoder.weight", "F32", "I32");
        let error = restore(rig, &whole, &state).unwrap_err();
        expect_named(Err::<(), _>(error), "decoder.weight", "I32");
        // A file that ties the decoder's weight to something else, and one that ties more.
        let tied = |ties: &str| {
            let bytes = weight.to_bytes().unwrap();
            let (mut header, data) = split(&bytes);
            header["__metadata__"]["tied_linear.ties"] = ties.into();
            header["w"] =
                serde_json::json!({"dtype": "F32", "shape": [0], "data_offsets": [24, 24]});
            Checkpoint::from_bytes(&raw(&header.to_string(), data)).unwrap()
        };
        let want = Error::OtherTie {
            key: "decoder.weight".into(),
            expected: "encoder.weight".into(),
            given: "w".into(),
        };
        let result = restore(rig, &tied(r#"{"decoder.weight":"w^T"}"#), &state);
        assert_eq!(result, Err(want));
        let mut more = tied(r#"{"decoder.weight":"encoder.weight^T","v":"encoder.weight^T"}"#);
        more.retain(|key| key != "w");
        assert_eq!(restore(rig, &more, &state), Err(Error::UnknownKey { key: "v".into() }));
        assert_eq!(state_bits(rig, &state), before);
        more.retain(|key| key != "v");
        restore(rig, &more, &state).unwrap();
        restore(rig, &twin, &state).unwrap();
        // The same tie told the other way round.
        let mut mirrored = weight.clone();
        mirrored.retain(|_| false);
        let mirrored = mirrored
            .with_tensor("decoder.weight", &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
            .unwrap();
        let bytes = mirrored.to_bytes().unwrap();
        let (mut header, data) = split(&bytes);
        header["__metadata__"]["tied_linear.ties"] =
            r#"{"encoder.weight":"decoder.weight^T"}"#.into();
        let mirrored = Checkpoint::from_bytes(&raw(&header.to_string(), data)).unwrap();
        layer.weight().matrix().write(&rig.gpu.device, &rig.gpu.queue, &[0.0; 6]).unwrap();
        restore(rig, &mirrored, &state).unwrap();
        assert_eq!(rig.get(layer.weight().matrix()), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    });
}

#[test]
fn adam_goes_on_from_where_pytorch_was() {
    on_every_adapter(|rig| {
        let checkpoint = of_pytorch("adam");
        let keys = LayerKeys { decoder_bias: "decoder_bias".into(), ..Default::default() };
        let f = [Activation::Tanh, Activation::Identity];
        let mut state = checkpoint.clone();
        state.retain(|key| !key.starts_with("after.") && key != "x");
        let layer = state.clone().without_optimizer();
        let layer = layer.tied_layer(&rig.kernels, &rig.gpu.queue, &keys, f).unwrap();
        let settings = AdamSettings::adam(0.05).with_weight_decay(0.01);
        let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
        let target = layer.state_dict(&keys);
        let target = target.clone().and(optimizer.state_dict(&target).unwrap());
        restore(rig, &state, &target).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        let x = rig.kernels.matrix("x", 4, INPUTS, &checkpoint.values("x").unwrap()).unwrap();
        let options = TrainingOptions::default();
        let step = TrainingStep::new(&layer, &optimizer, &gradients, &x, &x, options).unwrap();
        for _ in 0..3 {
            rig.run(&step.gradient_commands().clone().then(step.update_commands().clone()));
        }
        for entry in layer.state_dict(&keys).iter() {
            let got = rig.get(&entry.matrix);
            let want = checkpoint.values(&format!("after.{}", entry.key)).unwrap();
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() <= 2e-6, "{}: {got}, {want}", entry.key);
            }
        }
    });
}
