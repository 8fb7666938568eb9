//! The wire format: a change to the protos must show in the golden file.

use std::{fmt::Write, fs, path::Path};

use pointsman::server::proto::DESCRIPTOR;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Label};

#[test]
fn the_wire_format_is_the_golden_one() {
    let set = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let mut text = String::new();
    for file in set.file.iter().filter(|file| file.package() == "pointsman.v1") {
        for service in &file.service {
            for method in &service.method {
                let (input, output) = (method.input_type(), method.output_type());
                let stream = if method.server_streaming() { "stream " } else { "" };
                writeln!(
                    text,
                    "rpc {}.{}({input}) returns ({stream}{output})",
                    service.name(),
                    method.name()
                )
                .unwrap();
            }
        }
        for message in &file.message_type {
            describe(message, &mut text);
        }
        for kind in &file.enum_type {
            for value in &kind.value {
                writeln!(text, "enum {} {} = {}", kind.name(), value.name(), value.number()).unwrap();
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/proto.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "the wire format changed; if it should, run with UPDATE_GOLDEN=1");
}

fn describe(message: &DescriptorProto, text: &mut String) {
    for field in &message.field {
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        let optional = if field.proto3_optional() { "optional " } else { "" };
        let kind = match field.type_name() {
            "" => format!("{:?}", field.r#type()).to_lowercase(),
            name => name.to_owned(),
        };
        writeln!(
            text,
            "message {} {repeated}{optional}{kind} {} = {}",
            message.name(),
            field.name(),
            field.number()
        )
        .unwrap();
    }
}
