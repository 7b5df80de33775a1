//! Every form, read again by a parser of its language that is not ours; with words that have a meaning there.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;
use crate::cli::deploy_options;

/// What is awkward to write, in one line or another.
const LINE: &str = "log=info \"env.A=<&'$x%y${z}\\\" -- --port 8080";

fn appliance() -> Appliance {
    Appliance {
        name: "guest-book".into(),
        image: "/srv/guest book's/guest-book".into(),
        initrd: None,
        memory_mib: 64,
        cpus: 2,
        ports: (80, 8080),
        disks: Vec::new(),
        shares: Vec::new(),
        qemu_arguments: Vec::new(),
        command_line: LINE.into(),
        replicas: 3,
        is_translated: false,
        has_user_network: false,
    }
}

fn with_disk() -> Appliance {
    with_disks(&["/srv/data.img"])
}

fn with_disks(paths: &[&str]) -> Appliance {
    let disk = |path: &&str| Disk { is_read_only: true, ..Disk::new(Path::new(path)) };
    Appliance { disks: paths.iter().map(disk).collect(), ..appliance() }
}

fn files(form_name: &str, appliance: &Appliance) -> Vec<File> {
    (form(form_name).files)(appliance).unwrap()
}

fn form(name: &str) -> &'static Form {
    FORMS.iter().find(|known| known.words.form == name).unwrap()
}

/// The words that a script hands to `program`, as a shell reads them.
fn words_for(program: &str, script: &str) -> Vec<String> {
    let folder = std::env::temp_dir().join(format!("deploy-{program}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    // Whatever else the script runs does nothing.
    let log = folder.join("log");
    for name in ["ip", "curl", "mktemp", "qm", "pvesh", "firecracker", "cloud-hypervisor"] {
        let text = match name == program {
            true => format!("#!/bin/sh\n[ \"$1\" = start ] || printf '%s\\n' \"$@\" > '{}'\n", log.display()),
            false => "#!/bin/sh\necho 7\n".to_owned(),
        };
        write(&folder, &[File::script(name.to_owned(), text)]).unwrap();
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let status = std::process::Command::new("sh")
        .args(["-c", script, "/dev/null"])
        .env("PATH", path)
        .status()
        .unwrap();
    assert!(status.success());
    let words = fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect();
    fs::remove_dir_all(folder).unwrap();
    words
}

#[test]
fn names_are_those_of_hosts() {
    assert_eq!(host_name("My_Server.elf"), "my-server-elf");
    assert_eq!(host_name("--"), "appliance");
    assert_eq!(host_name(&"x".repeat(100)).len(), 63);
}

#[test]
fn systemd_gets_every_word_as_it_is() {
    let [file] = &files("systemd", &with_disk())[..] else { panic!("one file") };
    assert_eq!(file.name, "guest-book.service");
    let append = file.text.split(" -append ").nth(1).unwrap();
    assert!(append.starts_with("\"log=info \\\"env.A=<&'$$x%%y$${z}\\\\\\\" -- --port 8080\""), "{append}");
    assert!(file.text.contains("-kernel \"/srv/guest book's/guest-book\""));
    // systemd itself, where it is installed.
    let path = std::env::temp_dir().join(format!("deploy-{}-guest-book.service", std::process::id()));
    fs::write(&path, &file.text).unwrap();
    if let Ok(output) = std::process::Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let own = said.lines().filter(|line| line.contains("guest-book") && !line.contains("not executable"));
        assert_eq!(own.collect::<Vec<_>>(), Vec::<&str>::new());
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn libvirt_reads_the_domain() {
    let [file] = &files("libvirt", &with_disk())[..] else { panic!("one file") };
    let document = roxmltree::Document::parse(&file.text).unwrap();
    let text = |name: &str| {
        let node = document.descendants().find(|node| node.has_tag_name(name)).unwrap();
        node.text().unwrap().to_owned()
    };
    assert_eq!(text("cmdline"), LINE);
    assert_eq!(text("kernel"), "/srv/guest book's/guest-book");
    let source = document.descendants().find(|node| node.has_attribute("file")).unwrap();
    assert_eq!(source.attribute("file"), Some("/srv/data.img"));
    assert!(document.descendants().any(|node| node.has_tag_name("readonly")));
    assert!((form("libvirt").files)(&with_disks(&["/srv/data.img"; 27])).is_err());
}

#[test]
fn firecracker_reads_the_configuration() {
    let [configuration, script] = &files("firecracker", &with_disk())[..] else { panic!("two files") };
    let json: Value = serde_json::from_str(&configuration.text).unwrap();
    assert!(json["boot-source"]["boot_args"].as_str().unwrap().ends_with(LINE));
    assert_eq!(json["machine-config"]["vcpu_count"], 2);
    assert_eq!(json["drives"][0]["is_read_only"], true);
    assert!(
        words_for("firecracker", &script.text).ends_with(&["--config-file".into(), "guest-book.json".into()])
    );
    assert!((form("firecracker").files)(&Appliance { cpus: 33, ..appliance() }).is_err());
    // It would take one for raw.
    assert!((form("firecracker").files)(&with_disks(&["/srv/data.qcow2"])).is_err());
}

#[test]
fn cloud_hypervisor_gets_every_word_as_it_is() {
    let [script] = &files("cloud-hypervisor", &with_disk())[..] else { panic!("one file") };
    let words = words_for("cloud-hypervisor", &script.text);
    let after = |option| words[words.iter().position(|word| word == option).unwrap() + 1].as_str();
    assert!(after("--cmdline").ends_with(LINE));
    // Their formats are said: the first sector of what is guessed may not be written.
    assert_eq!(after("--disk"), "path=/srv/data.img,image_type=raw,readonly=on");
    let [script] = &files("cloud-hypervisor", &with_disks(&["/srv/data.qcow2"]))[..] else {
        panic!("one file")
    };
    assert!(script.text.contains("path=/srv/data.qcow2,image_type=qcow2,readonly=on"), "{}", script.text);
    assert_eq!(after("--kernel"), "/srv/guest book's/guest-book");
}

/// Stand-ins behave as the hypervisors do: Cloud Hypervisor makes a terminal raw, and ends by SIGINT whatever it was told.
#[test]
fn keys_press_the_power_button() {
    const RUNS: &str = "touch started; until [ -e off ]; do sleep 0.05; done; touch ended";
    let firecracker = format!("#!/bin/sh\n{RUNS}\n");
    let cloud_hypervisor =
        format!("#!/bin/sh\n[ ! -t 1 ] || stty raw <&1\nexec env --default-signal=INT sh -c '{RUNS}'\n");
    for (form_name, stand_in) in [("firecracker", firecracker), ("cloud-hypervisor", cloud_hypervisor)] {
        let folder = std::env::temp_dir().join(format!("deploy-keys-{form_name}-{}", std::process::id()));
        let mut files = files(form_name, &appliance());
        for (name, text) in [
            (form_name, stand_in.as_str()),
            ("curl", "#!/bin/sh\ntouch off\n"),
            ("ch-remote", "#!/bin/sh\ntouch off\n"),
            ("ip", "#!/bin/sh\n"),
        ] {
            files.push(File::script(name.to_owned(), text.to_owned()));
        }
        write(&folder, &files).unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        // Has a terminal made, whose keys are its input. A test in the background may have been told to ignore SIGINT, which would
        // be inherited.
        let mut terminal = std::process::Command::new("env")
            .args(["--default-signal=INT", "script", "-qec", "sh guest-book.sh", "/dev/null"])
            .current_dir(&folder)
            .env("PATH", path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for(|| folder.join("started").exists());
        terminal.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        wait_for(|| terminal.try_wait().unwrap().is_some());
        let has_ended = folder.join("ended").exists();
        fs::remove_dir_all(folder).unwrap();
        assert!(has_ended, "{form_name} was not asked to end");
    }
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "nothing happens");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nomad_reads_the_job() {
    let [file] = &files("nomad", &with_disk())[..] else { panic!("one file") };
    let job: Value = hcl::from_str(&file.text).unwrap();
    let group = &job["job"]["guest-book"]["group"]["guest-book"];
    assert_eq!(group["count"], 3);
    let task = &group["task"]["guest-book"];
    assert_eq!(task["resources"]["memory"], 64);
    let words: Vec<&str> =
        task["config"]["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let append = words[words.iter().position(|&word| word == "-append").unwrap() + 1];
    assert_eq!(append.replace("$${", "${"), LINE);
}

#[test]
fn kubevirt_reads_the_manifests() {
    let [file] = &files("kubevirt", &appliance())[..] else { panic!("one file") };
    let documents: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&file.text)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    let [machines, service] = &documents[..] else { panic!("two documents") };
    assert_eq!(machines["spec"]["replicas"], 3);
    let boot = &machines["spec"]["template"]["spec"]["domain"]["firmware"]["kernelBoot"];
    assert_eq!(boot["kernelArgs"], LINE);
    assert_eq!(service["spec"]["selector"], machines["spec"]["template"]["metadata"]["labels"]);
    let files = files("kubevirt", &Appliance { initrd: Some("/srv/of-here".into()), ..appliance() });
    assert!(files[0].text.contains("\"initrdPath\": \"/boot/initrd\""), "{}", files[0].text);
}

#[test]
fn proxmox_gets_every_word_as_it_is() {
    let [script] = &files("proxmox", &appliance())[..] else { panic!("one file") };
    let words = words_for("qm", &script.text);
    let arguments = &words[words.iter().position(|word| word == "--args").unwrap() + 1];
    // qm splits them once more.
    let split = words_for("ip", &format!("ip {arguments}"));
    assert_eq!(split, ["-kernel", "/srv/guest book's/guest-book", "-append", LINE]);
}

/// Options of `run`, with values that are not the usual ones.
const SAID: [&[&str]; 24] = [
    &["--machine", "microvm"],
    &["--machine", "pc"],
    &["--memory", "77"],
    &["--smp", "3"],
    &["--port", "81:82"],
    &["--net", "none"],
    &["--net", "tap=tap0"],
    &["--net", "user", "--net", "user"],
    &["--disk", "data.img"],
    &["--snapshot", "--disk", "data.img"],
    &["--snapshot"],
    &["--share", "/srv/www:/www:ro"],
    &["--append", "log=info"],
    &["--env", "NAME=value"],
    &["--qemu-arg", "-no-shutdown"],
    &["--pcap", "frames.pcapng"],
    &["--accel", "tcg"],
    &["--accel", "auto"],
    &["--time-out", "60"],
    &["--gdb"],
    &["--verbose"],
    &["--replicas", "3"],
    &["--initrd", "/proc/self/exe"],
    &["--machine=q35", "--memory=77"],
];

/// The files of a form for options, or why there are none; and what is said beside.
fn deployed(form: &Form, options: &[&str]) -> Result<(String, Vec<String>)> {
    let words = [&[form.words.form, "/srv/server"], options].concat();
    let options = deploy_options(&words)?;
    let notes = form.words.check(&options.given)?;
    let bootable = Bootable { image: "/srv/server".into(), initrd: None };
    let files = (form.files)(&describe(&options, &bootable)?)?;
    Ok((files.into_iter().map(|file| file.text).collect(), notes))
}

#[test]
fn no_option_is_left_out_in_silence() {
    for form in &FORMS {
        let (usual, notes) = deployed(form, &[]).unwrap();
        assert_eq!(notes, Vec::<String>::new());
        for options in SAID {
            let option = options[0].split('=').next().unwrap();
            let told = |text: &str| text.contains(option) && text.contains(form.words.form);
            match deployed(form, options) {
                Err(error) => assert!(told(&error.to_string()), "{}: {options:?}: {error}", form.words.form),
                // What is written anyway may be said, too.
                Ok(_) if form.words.takes.contains(&&*options.join(" ")) && !options.contains(&"tcg") => {}
                // Without a disk there is nothing to say.
                Ok(_) if options == ["--snapshot"] => {}
                Ok((text, notes)) => assert!(
                    text != usual || notes.iter().any(|note| told(note)),
                    "{}: {options:?} changes nothing",
                    form.words.form
                ),
            }
        }
    }
}

#[test]
fn what_a_form_has_is_taken() {
    let taken = |form_name: &str, options: &[&str]| deployed(form(form_name), options);
    for form in &FORMS {
        for option in form.words.takes.iter().filter(|option| option.contains(' ')) {
            let words: Vec<&str> = option.split(' ').collect();
            deployed(form, &words).unwrap();
        }
        deployed(form, &["--memory", "77", "--smp", "2", "--env", "A=b"]).unwrap();
    }
    assert!(taken("systemd", &["--snapshot", "--disk", "a.img"]).unwrap().0.contains("snapshot=on"));
    assert!(taken("proxmox", &["--qemu-arg", "-no-shutdown"]).unwrap().0.contains(" -no-shutdown"));
    let (_, notes) = taken("nomad", &["--port", "80:8080"]).unwrap();
    assert!(notes[0].contains("Nomad chooses the host's port"), "{notes:?}");
    let error = taken("systemd", &["--machine", "microvm"]).unwrap_err().to_string();
    assert_eq!(error, "the form `systemd` has no word for `--machine microvm`: it has `--machine q35`, once");
    let error = taken("proxmox", &["--disk", "a.img"]).unwrap_err().to_string();
    assert!(error.ends_with("give the machine its disks with `qm set`"), "{error}");
}

#[test]
fn page_lists_the_options_of_each_form() {
    let page = fs::read_to_string(crate::project::root().join("docs/deploy.md")).unwrap();
    for form in &FORMS {
        let options: Vec<String> = form.words.takes.iter().map(|option| format!("`{option}`")).collect();
        let row = format!("| `{}` | {} |", form.words.form, options.join(", "));
        assert!(page.contains(&row), "docs/deploy.md lacks {row}");
    }
}
