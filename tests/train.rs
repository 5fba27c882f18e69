//! The example `train`, called as its `main` calls it: known answers, saving and resuming, and what it
//! says of wrong arguments.

mod common;
#[path = "../examples/train/program.rs"]
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use common::{Rig, on_every_adapter, once_per_adapter};
use program::Report;
use program::options::Options;
use tied_linear::LossScaleStatus;

/// Where Debian's package dataset-fashion-mnist puts its files; FASHION_MNIST says otherwise.
const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist";

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("train-{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the example with these arguments, its pictures going to the folder.
fn try_train(rig: &Rig, folder: &Folder, arguments: &[&str]) -> Result<Report, String> {
    let out = folder.file("pictures");
    let all = ["train", "--out", &out].into_iter().chain(arguments.iter().copied());
    let options = Options::try_parse_from(all).map_err(|error| error.to_string())?;
    program::train(&options, &rig.gpu, &rig.kernels).map_err(|error| error.to_string())
}

fn train(rig: &Rig, folder: &Folder, arguments: &[&str]) -> Report {
    try_train(rig, folder, arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// An IDX file of so many images of 3×2 pixels.
fn write_idx(path: &Path, images: u8) {
    let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, images, 0, 0, 0, 2, 0, 0, 0, 3];
    bytes.extend((0..u32::from(images) * 6).map(|index| (index * index * 37 % 251) as u8));
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    // Layers with biases and without, noise whose step counts, and a smaller batch at the end.
    let runs: [&[&str]; 6] = [
        &[],
        &["--layers", "64,20,5", "--noise", "masking:0.3", "--seed", "3"],
        &["--layers", "64,20,5", "--noise", "gaussian:0.1", "--activation", "tanh"],
        &["--hidden", "7", "--activation", "relu", "--loss", "cross-entropy"],
        &["--layers", "64,20,5", "--noise", "masking:0.3", "--element", "f16"],
        &["--hidden", "7", "--element", "bf16", "--loss-scale", "256"],
    ];
    on_every_adapter(|rig| {
        let folder = Folder::new("resumed");
        let [whole, half, rest] = ["whole", "half", "rest"].map(|name| folder.file(name));
        for run in runs {
            let with = |more: &[&'static str], files: &[&str]| {
                let fixed = ["--epochs", "5", "--batch", "400"];
                let all = fixed.iter().chain(run).chain(more).copied().map(String::from);
                let all: Vec<_> = all.chain(files.iter().map(|file| file.to_string())).collect();
                train(rig, &folder, &all.iter().map(String::as_str).collect::<Vec<_>>())
            };
            // Saved in between too, at epoch 2 and 4.
            let want = with(&["--save-every", "2"], &["--save", &whole]);
            with(&["--stop", "3"], &["--save", &half]);
            assert_ne!(fs::read(&half).unwrap(), fs::read(&whole).unwrap(), "{run:?}");
            // The settings are the file's.
            let got = train(rig, &folder, &["--resume", &half, "--save", &rest]);
            assert_eq!(got, want, "{run:?}");
            assert!(fs::read(&rest).unwrap() == fs::read(&whole).unwrap(), "{run:?}: files differ");
            // Nothing is left to do.
            let again = train(rig, &folder, &["--resume", &whole, "--save", &rest]);
            assert_eq!(again, want, "{run:?}");
            assert!(fs::read(&rest).unwrap() == fs::read(&whole).unwrap(), "{run:?}: files differ");
        }
    });
}

#[test]
fn a_file_in_between_is_whole_and_training_goes_on_from_it() {
    once_per_adapter(|rig| {
        let folder = Folder::new("between");
        let [whole, between, rest] = ["whole", "between", "rest"].map(|name| folder.file(name));
        let ended = AtomicBool::new(false);
        let first_seen = || {
            while !ended.load(Ordering::Relaxed) {
                if let Ok(bytes) = fs::read(&whole) {
                    return Some(bytes);
                }
                thread::sleep(Duration::from_millis(1));
            }
            None
        };
        let arguments = ["--epochs", "40", "--save-every", "1", "--save", &whole];
        let seen = thread::scope(|scope| {
            let watcher = scope.spawn(first_seen);
            let result = try_train(rig, &folder, &arguments);
            ended.store(true, Ordering::Relaxed);
            result.unwrap();
            watcher.join().unwrap().expect("a file while the training runs")
        });
        assert!(seen != fs::read(&whole).unwrap(), "nothing was saved before the end");
        fs::write(&between, seen).unwrap();
        train(rig, &folder, &["--resume", &between, "--save", &rest]);
        assert!(fs::read(&rest).unwrap() == fs::read(&whole).unwrap());
    });
}

#[test]
fn the_digits_come_to_their_principal_components() {
    on_every_adapter(|rig| {
        let folder = Folder::new("digits");
        // The defaults, of which the README shows the result.
        let report = train(rig, &folder, &[]);
        let optimum = report.optimum.unwrap();
        assert!((optimum - 1.228574).abs() < 1e-5, "{report:?}");
        let excess = report.error / optimum - 1.0;
        assert!((-1e-6..1e-3).contains(&excess), "{report:?}");
        for picture in ["reconstructions.png", "weight.png", "loss.png"] {
            let bytes = fs::read(folder.0.join("pictures").join(picture)).unwrap();
            assert!(bytes.starts_with(b"\x89PNG"), "{picture}");
        }
    });
}

#[test]
fn sixteen_bits_come_to_what_f32_does() {
    once_per_adapter(|rig| {
        let folder = Folder::new("elements");
        let run = |more: &[&str]| train(rig, &folder, &[&["--epochs", "60"], more].concat());
        for layers in ["64,10", "64,40,10"] {
            let whole = run(&["--layers", layers]);
            assert_eq!(whole.scale, None);
            for element in ["f16", "bf16"] {
                let half = run(&["--layers", layers, "--element", element]);
                let excess = half.error / whole.error - 1.0;
                println!(
                    "{layers}, {element}: {:.6}, {excess:+.2e} of {:.6}",
                    half.error, whole.error
                );
                assert!(excess.abs() <= 0.01, "{layers}, {element}: {half:?}, {whole:?}");
                // It is another computation.
                assert_ne!(half.error, whole.error, "{layers}, {element}");
                assert_eq!(half.scale.map(|status| status.scale), Some(65536.0), "{half:?}");
            }
        }
    });
}

#[test]
fn a_scale_that_overflows_skips_every_step_and_none_skips_none() {
    once_per_adapter(|rig| {
        let folder = Folder::new("scales");
        let run = |more: &[&str]| train(rig, &folder, &[&["--element", "f16"], more].concat());
        // Four steps an epoch, after which the weights are the first ones still.
        let skipped = |epochs: &str| run(&["--epochs", epochs, "--loss-scale", "1e12"]);
        let [one, two] = [skipped("1"), skipped("2")];
        let status = |steps| Some(LossScaleStatus { scale: 1e12, good_steps: 0, skipped: steps });
        assert_eq!([one.scale, two.scale], [status(4), status(8)]);
        assert_eq!(one.error, two.error);
        // They are rounded, as f32 weights that learn next to nothing are not.
        let unrounded = train(rig, &folder, &["--epochs", "1", "--lr", "1e-30"]);
        let difference = (one.error / unrounded.error - 1.0).abs();
        assert!((1e-8..1e-3).contains(&difference), "{one:?}, {unrounded:?}");
        let unscaled = run(&["--epochs", "1", "--loss-scale", "none"]);
        assert_eq!(unscaled.scale, None);
        let fixed = run(&["--epochs", "1", "--loss-scale", "512"]);
        let status = fixed.scale.unwrap();
        assert_eq!([status.scale, status.skipped as f32], [512.0, 0.0]);
        assert!(fixed.error < one.error && unscaled.error < one.error, "{one:?}, {fixed:?}");
    });
}

#[test]
fn a_file_from_before_there_were_element_types_is_one_of_f32() {
    once_per_adapter(|rig| {
        let folder = Folder::new("old");
        let [new, old, rest] = ["new", "old", "rest"].map(|name| folder.file(name));
        train(rig, &folder, &["--epochs", "2", "--stop", "1", "--save", &new]);
        let bytes = fs::read(&new).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (header, data) = bytes[8..].split_at(length);
        let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let texts = header["__metadata__"].as_object_mut().unwrap();
        assert_eq!(texts.remove("train.element"), Some("f32".into()));
        assert_eq!(texts.remove("train.loss-scale"), Some("none".into()));
        let header = header.to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&old, [&length[..], header.as_bytes(), data].concat()).unwrap();
        let want = train(rig, &folder, &["--resume", &new]);
        assert_eq!(train(rig, &folder, &["--resume", &old, "--save", &rest]), want);
        // From then on the file says so.
        let error = try_train(rig, &folder, &["--resume", &old, "--element", "bf16"]).unwrap_err();
        assert!(error.contains("which was trained with --element f32"), "{error}");
        train(rig, &folder, &["--resume", &rest, "--element", "f32", "--loss-scale", "none"]);
    });
}

#[test]
fn test_images_are_measured_and_not_trained_on() {
    once_per_adapter(|rig| {
        let folder = Folder::new("idx");
        let data = folder.0.join("data");
        fs::create_dir_all(&data).unwrap();
        let data_name = data.display().to_string();
        write_idx(&data.join("train-images-idx3-ubyte"), 40);
        let arguments = ["--data", &data_name, "--layers", "6,2", "--epochs", "20"];
        let without = train(rig, &folder, &arguments);
        assert_eq!(without.test_error, None);
        write_idx(&data.join("t10k-images-idx3-ubyte"), 10);
        let with = train(rig, &folder, &arguments);
        assert_eq!(Report { test_error: None, test_optimum: None, ..with }, without);
        // The ten are the first ten of the forty, so their errors are no larger than four times theirs.
        let error = with.test_error.unwrap();
        assert!(error > 0.0 && error < 4.0 * with.error, "{with:?}");
        let ours = with.test_optimum.unwrap();
        assert!(ours > 0.0 && ours < 4.0 * with.optimum.unwrap() + 1e-9, "{with:?}");
    });
}

#[test]
fn wrong_arguments_are_explained() {
    once_per_adapter(|rig| {
        let folder = Folder::new("wrong");
        let [file, other] = ["file", "other"].map(|name| folder.file(name));
        train(rig, &folder, &["--epochs", "2", "--stop", "1", "--save", &file]);
        let data = folder.0.join("data");
        fs::create_dir_all(&data).unwrap();
        let data_name = data.display().to_string();
        write_idx(&data.join("train-images-idx3-ubyte"), 40);
        fs::write(&other, b"no checkpoint").unwrap();
        let cases: [(&[&str], &str); 20] = [
            (&["--layers", "100,10"], "--layers 64,100,10"),
            (&["--layers", "64"], "two lengths"),
            (&["--layers", "64,0"], "not a length"),
            (&["--layers", "64,10", "--hidden", "10"], "cannot be used with"),
            (&["--noise", "masking:2"], "probability from 0 to 1"),
            (&["--noise", "gaussian"], "standard deviation"),
            (&["--noise", "salt:1"], "masking:PROBABILITY"),
            (&["--loss", "l1"], "squared-error or cross-entropy"),
            (&["--lr", "0"], "above 0"),
            (&["--element", "f64"], "f32, f16 or bf16"),
            (&["--loss-scale", "0"], "dynamic, none or a number above 0"),
            (&["--loss-scale", "-8"], "dynamic, none or a number above 0"),
            (&["--save-every", "2"], "--save"),
            (&["--stop", "9", "--epochs", "3", "--save", &other], "beyond all 3 epochs"),
            (&["--resume", &file, "--batch", "100"], "which was trained with --batch 512"),
            (&["--resume", &file, "--layers", "64,9"], "which was trained with --layers 64,10"),
            (&["--resume", &file, "--element", "f16"], "which was trained with --element f32"),
            (&["--resume", &file, "--loss-scale", "8"], "which was trained with --loss-scale none"),
            (&["--resume", &file, "--data", &data_name, "--layers", "6,10"], "contradicts"),
            (&["--resume", &other], &other),
        ];
        for (arguments, says) in cases {
            let error = try_train(rig, &folder, arguments).expect_err(says);
            assert!(error.contains(says), "{arguments:?}: \"{says}\" is not in \"{error}\"");
        }
    });
}

/// The known numbers: 784→30 comes to 12.243 on the 10,000 test images, and a deep stack goes below.
///
/// It takes minutes, and a release build: `cargo test --release --test train -- --ignored`.
#[test]
#[ignore = "takes minutes and the package dataset-fashion-mnist"]
fn fashion_mnist_comes_to_the_known_errors() {
    let data = std::env::var("FASHION_MNIST").unwrap_or_else(|_| FASHION_MNIST.into());
    assert!(
        Path::new(&data).is_dir(),
        "NOT RUN: {data} is not there (FASHION_MNIST names another)"
    );
    once_per_adapter(|rig| {
        let folder = Folder::new("fashion");
        let linear = train(rig, &folder, &["--data", &data, "--layers", "784,30", "--epochs", "8"]);
        let [error, optimum] = [linear.test_error, linear.test_optimum].map(Option::unwrap);
        assert!((optimum / 12.243 - 1.0).abs() < 1e-3, "{linear:?}");
        assert!((error / 12.243 - 1.0).abs() < 0.01, "{linear:?}");
        let deep = ["--data", &data, "--layers", "784,256,30", "--epochs", "3"];
        let deep = train(rig, &folder, &deep);
        assert!(deep.test_error.unwrap() < 0.9 * 12.243, "{deep:?}");
    });
}
