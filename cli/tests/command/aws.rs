//! A stand-in for AWS on the loopback interface. It records which key signed which call.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

pub const ACCOUNT: &str = "111122223333";
pub const SERVICE: &str = "vpce-svc-0123456789abcdef0";

/// The key in the environment of every command.
pub const ENVIRONMENT_KEY: &str = "AKIAENVIRONMENT";

/// The key that `sts:AssumeRole` returns.
pub const ROLE_KEY: &str = "ASIAROLE";

/// The key that the SSO portal returns for [`TOKEN`].
pub const PORTAL_KEY: &str = "ASIAPORTAL";

/// The access token of a user signed in with SSO.
pub const TOKEN: &str = "token-of-the-sign-in";

/// The calls: `AssumeRole in eu-central-1 by KEY`.
type Calls = Arc<Mutex<Vec<String>>>;

pub struct Aws {
    url: String,
    home: PathBuf,
    calls: Calls,
}

impl Aws {
    /// A new server, with a home folder for the command; `name` is the test's.
    pub fn new(name: &str) -> Self {
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Calls::default();
        let seen = Arc::clone(&calls);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || answer(&stream.unwrap(), &seen));
            }
        });
        Self { url, home, calls }
    }

    /// Writes a file below the home folder.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.home.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// Reads a file below the home folder.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.home.join(path)).unwrap()
    }

    /// The command, with a key in its environment and nothing from the developer's own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // Read at run time: a shell runs tools/rustc.sh and drops variables with a hyphen.
        let mut command = Command::new(std::env::var_os("CARGO_BIN_EXE_privatelink-guard").unwrap());
        command.args(arguments).current_dir(&self.home).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", &self.home).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONFIG_FILE", self.home.join("config"));
        command.env("AWS_SHARED_CREDENTIALS_FILE", self.home.join("credentials"));
        command.env("AWS_ACCESS_KEY_ID", ENVIRONMENT_KEY).env("AWS_SECRET_ACCESS_KEY", "secret");
        for service in ["", "_STS", "_SSO"] {
            command.env(format!("AWS_ENDPOINT_URL{service}"), &self.url);
        }
        command
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

/// Answers one request.
fn answer(mut stream: &TcpStream, calls: &Calls) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let headers = lines.iter().filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or_default()];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8_lossy(&body);
    let action = body.split('&').find_map(|field| field.strip_prefix("Action="));
    let action = action.or(header("x-amz-target").rsplit('.').next()).filter(|action| !action.is_empty());
    let action = action.unwrap_or("GetRoleCredentials");
    // AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...
    let scope: Vec<&str> = header("authorization").split(['=', '/']).skip(1).collect();
    let signer = match scope[..] {
        [key, _, region, ..] => format!("{action} in {region} by {key}"),
        _ => format!("{action} with {}", header("x-amz-sso_bearer_token")),
    };
    calls.lock().unwrap().push(signer);
    let stack = body.split('&').find_map(|field| field.strip_prefix("StackName="));
    let region = scope.get(2).copied().unwrap_or_default();
    let (status, text) = stack.and_then(|stack| of_stack(stack, region)).unwrap_or_else(|| response(action));
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    stream.write_all(format!("{head}{text}").as_bytes()).unwrap();
}

/// The stacks with a story: `half` has no outputs yet, `gone` was deleted, `abroad` is in eu-west-1, and `nowhere` is
/// nowhere.
fn of_stack(stack: &str, region: &str) -> Option<(&'static str, String)> {
    let missing = format!(
        "<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack with id {stack} does not exist</Message></Error>\
         </ErrorResponse>"
    );
    match (stack, region) {
        ("half", _) => Some((
            "200 OK",
            response("DescribeStacks").1.replace("CREATE_COMPLETE", "ROLLBACK_COMPLETE").replace("<Outputs>", "<Left>"),
        )),
        ("abroad", "eu-west-1") | ("guard", _) => None,
        _ => Some(("400 Bad Request", missing)),
    }
}

fn response(action: &str) -> (&'static str, String) {
    let text = match action {
        "GetCallerIdentity" => format!(
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::{ACCOUNT}:user/me</Arn>\
             <UserId>me</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        ),
        "AssumeRole" => format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{ROLE_KEY}</AccessKeyId>\
             <SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
        ),
        "GetRoleCredentials" => format!(
            r#"{{"roleCredentials": {{"accessKeyId": "{PORTAL_KEY}", "secretAccessKey": "secret",
                "sessionToken": "token", "expiration": 4070908800000}}}}"#
        ),
        "DescribeVpcEndpointServiceConfigurations" => format!(
            "<DescribeVpcEndpointServiceConfigurationsResponse><serviceConfigurationSet><item>\
             <serviceId>{SERVICE}</serviceId><serviceName>com.amazonaws.vpce.us-east-1.{SERVICE}</serviceName>\
             <serviceState>Available</serviceState><acceptanceRequired>false</acceptanceRequired>\
             </item></serviceConfigurationSet></DescribeVpcEndpointServiceConfigurationsResponse>"
        ),
        "DescribeStacks" => format!(
            "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>guard</StackName>\
             <CreationTime>2026-01-01T00:00:00Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>\
             <Parameters><member><ParameterKey>EndpointServiceIds</ParameterKey>\
             <ParameterValue>{SERVICE}</ParameterValue></member></Parameters>\
             <Outputs><member><OutputKey>StateTableName</OutputKey><OutputValue>table</OutputValue></member></Outputs>\
             </member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        ),
        "ListStacks" => "<ListStacksResponse><ListStacksResult><StackSummaries><member><StackName>gone</StackName>\
             <StackStatus>DELETE_COMPLETE</StackStatus><CreationTime>2026-01-01T00:00:00Z</CreationTime>\
             <DeletionTime>2026-02-01T00:00:00Z</DeletionTime></member></StackSummaries></ListStacksResult>\
             </ListStacksResponse>"
            .to_owned(),
        "DescribeRegions" => "<DescribeRegionsResponse><regionInfo><item><regionName>us-east-1</regionName></item>\
             <item><regionName>eu-west-1</regionName></item></regionInfo></DescribeRegionsResponse>"
            .to_owned(),
        "Query" => r#"{"Items": [], "Count": 0, "ScannedCount": 0}"#.to_owned(),
        _ => return ("403 Forbidden", DENIED.to_owned()),
    };
    ("200 OK", text)
}

/// EC2's error for a denied call.
const DENIED: &str = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors>\
    <RequestID>1</RequestID></Response>";
