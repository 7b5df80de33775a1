//! Manifests for KubeVirt: a set of machines that boot the kernel of a container image (`cargo unikernel oci`), and
//! a service in front of them.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Appliance, File};
use crate::oci;

/// The engine starts the machines on the nodes that it has, restarts those that end, and the service spreads
/// connections over those that answer.
pub(super) fn files(appliance: &Appliance) -> Result<Vec<File>> {
    let Appliance { name, replicas, ports: (host, guest), .. } = appliance;
    let labels = json!({ "app": name });
    let machines = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": machine(appliance) },
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": {
            "selector": labels,
            "ports": [{ "name": "main", "port": host, "targetPort": guest }],
        },
    });
    // JSON is YAML (YAML 1.2, section 1.3), and what a library has written is well formed whatever the words are.
    let documents = [machines, service].map(|document| serde_json::to_string_pretty(&document));
    let [machines, service] = documents;
    let text = format!("# kubectl apply -f {name}.yaml\n{}\n---\n{}\n", machines?, service?);
    Ok(vec![File::new(format!("{name}.yaml"), text)])
}

fn machine(appliance: &Appliance) -> Value {
    let Appliance { name, memory_mib, cpus, ports: (_, guest), .. } = appliance;
    let mut container =
        json!({ "image": format!("registry.example/{name}:latest"), "kernelPath": format!("/boot/{name}") });
    if appliance.initrd.is_some() {
        container["initrdPath"] = json!(oci::INITRD);
    }
    let probe = json!({ "tcpSocket": { "port": guest }, "periodSeconds": 5 });
    json!({
        "terminationGracePeriodSeconds": 30,
        "domain": {
            "cpu": { "cores": cpus },
            "resources": { "requests": { "memory": format!("{memory_mib}Mi") } },
            "firmware": {
                "kernelBoot": {
                    "kernelArgs": appliance.command_line,
                    "container": container,
                },
            },
            "devices": {
                "autoattachGraphicsDevice": false,
                "autoattachMemBalloon": false,
                "rng": {},
                "interfaces": [{ "name": "default", "masquerade": {}, "model": "virtio", "ports": [{ "port": guest }] }],
            },
        },
        "networks": [{ "name": "default", "pod": {} }],
        "readinessProbe": probe,
        "livenessProbe": { "tcpSocket": { "port": guest }, "initialDelaySeconds": 10, "periodSeconds": 10 },
    })
}
