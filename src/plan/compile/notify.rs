//! Receivers of notices: their addresses, and that nobody is told twice.
//!
//! It must never put what a variable holds into a finding.

use super::{Context, each_file, listeners};
use crate::plan::receiver::{MAX_RECEIVERS, Receiver, Way};
use crate::spec::Spot;
use crate::spec::notify::Receiver as Written;

pub(super) fn compile(context: &mut Context<'_>) -> Vec<Receiver> {
    let mut receivers: Vec<Receiver> = Vec::new();
    each_file(context, |context, file| {
        for written in &file.notify {
            let Some(receiver) = receiver(context, written) else { continue };
            if receivers.iter().any(|known| known.id == receiver.id) {
                let hint = "remove one of them: it would be told everything twice";
                context.findings.error(written, "duplicate-name", "a receiver is written twice", hint);
                continue;
            }
            if receivers.len() == MAX_RECEIVERS {
                let message = format!("more than {MAX_RECEIVERS} receivers of notices");
                context.findings.error(written, "too-many", message, "let one of them pass notices on");
            }
            receivers.push(receiver);
        }
    });
    receivers
}

fn receiver(context: &mut Context<'_>, written: &Spot<Written>) -> Option<Receiver> {
    match &written.value {
        Written::Slack(slack) => {
            let fine = !slack.url_file.trim().is_empty();
            if !fine {
                let hint = "urlFile: /run/secrets/slack-url";
                context.findings.error(&slack.url_file, "bad-value", "a file has no name", hint);
            }
            let url_file = slack.url_file.value.clone();
            fine.then(|| Receiver { id: format!("slack {url_file}"), way: Way::Slack { url_file } })
        }
        Written::Webhook(webhook) => {
            let url = listeners::expand(context, &webhook.url)?;
            let fine = ["http://", "https://"]
                .iter()
                .any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
            if !fine {
                let hint = "write https://host/path";
                context.findings.error(&webhook.url, "bad-address", "this is no address to tell", hint);
                return None;
            }
            let secret_file = webhook.secret_file.as_ref().map(|file| file.value.clone());
            Some(Receiver { id: format!("webhook {}", *webhook.url), way: Way::Webhook { url, secret_file } })
        }
    }
}
