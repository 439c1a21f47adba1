//! A check that CloudWatch's alarms reach the topics of the deployed guard. A topic encrypted with AWS's own key
//! receives no alarms, although the guard's own messages arrive.

use aws_sdk_sns::Client;
use guard_aws::errors::call_error;
use guard_core::ids::Arn;
use guard_core::snapshot::CallError;
use guard_core::text::strip_invisible;

use crate::session::{Session, explained};
use crate::stack::DeployedStack;

/// The IAM action of the call.
pub const ACTION: &str = "sns:GetTopicAttributes";

/// The alias of AWS's own key. Its policy allows no AWS service, and cannot be changed.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html>
/// <https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns>
const AWS_KEY: &str = "alias/aws/sns";

/// A remark for each topic that alarms do not reach, or whose encryption cannot be read.
pub async fn remarks(session: &Session, stack: &DeployedStack) -> Vec<String> {
    let topics = [
        (stack.outputs.get("AlertTopicArn"), "If the guard itself stops, nobody hears of it."),
        (stack.parameters.get("PagerTopicArn"), "A critical alert pages nobody."),
    ];
    let mut remarks = Vec::new();
    for (topic, lost) in topics {
        let topic = topic.and_then(|topic| topic.parse::<Arn>().ok());
        // A topic in another Region receives no alarms in any case.
        if let Some(topic) = topic.filter(|topic| topic.region() == session.region) {
            remarks.extend(remark(&topic, lost, &key_of(session, &topic).await));
        }
    }
    remarks
}

/// The key that encrypts the topic; `None` for an unencrypted topic.
/// <https://docs.aws.amazon.com/sns/latest/api/API_GetTopicAttributes.html>
async fn key_of(session: &Session, topic: &Arn) -> Result<Option<String>, CallError> {
    let answer = Client::new(&session.config).get_topic_attributes().topic_arn(topic.as_str()).send().await;
    let answer = answer.map_err(|error| call_error(ACTION, &error))?;
    Ok(answer.attributes().and_then(|attributes| attributes.get("KmsMasterKeyId")).cloned())
}

/// `lost` is the consequence of alarms that do not reach the topic.
fn remark(topic: &Arn, lost: &str, key: &Result<Option<String>, CallError>) -> Option<String> {
    match key {
        Ok(Some(key)) if key == AWS_KEY || key.ends_with(&format!(":{AWS_KEY}")) => Some(format!(
            "CloudWatch's alarms do not reach the topic {topic}: it is encrypted with AWS's own key {AWS_KEY}, which \
             CloudWatch cannot use. {lost} dbt is not affected, and the guard's own messages can arrive. Encrypt the \
             topic with a customer managed key, or not at all: docs/kms.md has the commands."
        )),
        Ok(_) => None,
        Err(error) => {
            let why = strip_invisible(&explained(error));
            Some(format!("It is unknown whether CloudWatch's alarms reach the topic {topic}. {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use guard_core::testing::call_error;

    use super::*;

    #[test]
    fn awss_own_key_and_a_failed_read_are_reported() {
        let topic = "arn:aws:sns:eu-central-1:111122223333:alerts".parse().unwrap();
        let remark = |key: Result<Option<&str>, CallError>| {
            remark(&topic, "Nobody hears.", &key.map(|key| key.map(ToOwned::to_owned)))
        };
        for key in ["alias/aws/sns", "arn:aws:kms:eu-central-1:111122223333:alias/aws/sns"] {
            let said = remark(Ok(Some(key))).unwrap();
            assert!(said.contains("alarms do not reach the topic arn:aws:sns:eu-central-1:"), "{said}");
            assert!(said.contains("Nobody hears.") && said.contains("docs/kms.md"), "{said}");
        }
        for key in [None, Some(""), Some("alias/own"), Some("alias/aws/sns2"), Some("alias/my/alias/aws/sns")] {
            assert_eq!(remark(Ok(key)), None, "{key:?}");
        }
        let said = remark(Err(call_error(ACTION))).unwrap();
        assert!(said.contains(":alerts. You lack the permission sns:GetTopicAttributes"), "{said}");
    }
}
