//! `pointsman bundle verify --admin`: a running server checks a version of its bundle store, beside what serves there.

use indicatif::HumanBytes;

use super::{
    super::{
        CliError,
        admin::{AdminArguments, Client, Patience},
        config_file::ConfigFile,
    },
    remote::{self, Reason},
    verify_steps::{FOUND, SERVER, Steps, Stopped},
};
use crate::server::proto::{BundleReport, VerifyBundleRequest};

pub fn run(typed: &str, admin: &AdminArguments, file: &ConfigFile) -> Result<(), CliError> {
    let version = remote::version(typed);
    let version = version.map_err(|why| CliError::Usage(format!("{typed:?} with --admin: {why}")))?;
    let server = file.to_ask(admin)?;
    let asked = VerifyBundleRequest { version };
    let mut reason = Reason::Other;
    let answer = admin.wait_for(
        &server,
        Patience::Check,
        &format!("{typed} is checked"),
        async |mut client: Client| {
            let answer = client.verify_bundle(asked).await;
            if let Err(status) = &answer {
                reason = Reason::of(status);
            }
            answer
        },
    );
    let mut steps = Steps::new(admin.json);
    let outcome = match (answer, reason) {
        (Ok(answer), _) => Ok(steps.good(SERVER, told(&answer.bundle.unwrap_or_default()))?),
        (Err(error), Reason::Unfit(_)) => Err(Stopped::At(SERVER, error.to_string())),
        (Err(error), Reason::UnknownBundle) => Err(Stopped::At(FOUND, error.to_string())),
        (Err(error), Reason::Role | Reason::Unanswered | Reason::Other) => Err(Stopped::Otherwise(error)),
    };
    steps.end(typed, outcome)
}

fn told(bundle: &BundleReport) -> String {
    let BundleReport { name, created, bytes, signed_by, sha256, .. } = bundle;
    let known = [
        ("", name.clone()),
        ("created ", created.clone()),
        ("", if *bytes == 0 { String::new() } else { HumanBytes(*bytes).to_string() }),
        ("sha256 ", sha256.clone()),
        ("signed by ", signed_by.clone()),
    ];
    let known = known.iter().filter(|(_, told)| !told.is_empty());
    let known: Vec<String> = known.map(|(what, told)| format!("{what}{told}")).collect();
    format!("loaded and tried there, beside what serves; {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_of_a_bundle_is_left_out() {
        let bundle = BundleReport { name: "tiny".to_owned(), bytes: 4096, ..BundleReport::default() };
        assert_eq!(told(&bundle), "loaded and tried there, beside what serves; tiny, 4.00 KiB");
    }
}
