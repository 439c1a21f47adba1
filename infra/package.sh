#!/usr/bin/env bash
# Uploads the built guard for stackset.yaml: the code to a bucket in each Region, since Lambda reads code only from its
# own Region, and the template to the bucket in the first Region. Prints the template's URL.
#
#   infra/package.sh PREFIX REGION [REGION ...]       after: make functions
#
# BUILD is the folder of a release instead, and ARCHITECTURE its architecture. Its SHA256SUMS are checked first.
# The buckets are named PREFIX-REGION and are created if they do not exist. READERS lets other accounts read them:
#   READERS="222233334444 333344445555" infra/package.sh acme-privatelink-guard eu-central-1 us-east-1
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' infra/package.sh >&2; exit 2; }
prefix=$1 home=$2
shift
AWS=${AWS:-aws} BUILD=${BUILD:-target/functions} FOLDER=privatelink-guard
template=$BUILD/template-${ARCHITECTURE:-x86_64}.yaml
if [ ! -f "$template" ]; then
    echo "$template is missing: run make functions first, or set BUILD to the folder of a release." >&2
    exit 2
fi
python3 infra/artifacts.py verify "$BUILD" >/dev/null
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
partition=$($AWS sts get-caller-identity --query Arn --output text | cut -d: -f2)

for region in "$@"; do
    bucket=$prefix-$region
    $AWS s3api head-bucket --bucket "$bucket" --region "$region" >/dev/null 2>"$work/why" || {
        grep -q 404 "$work/why" || { echo "$bucket: $(cat "$work/why")" >&2; exit 1; }
        $AWS s3 mb "s3://$bucket" --region "$region" >&2
    }
    if [ -n "${READERS:-}" ]; then
        # shellcheck disable=SC2086 # split into one account per argument
        readers=$(printf '"%s",' $READERS)
        $AWS s3api put-bucket-policy --bucket "$bucket" --region "$region" --policy '{"Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"AWS": ['"${readers%,}"']}, "Action": "s3:GetObject",
            "Resource": "arn:'"$partition"':s3:::'"$bucket"'/'"$FOLDER"'/*"}]}'
    fi
done

# Not `sam package`, which unrolls the template's loops before the endpoint services are known.
$AWS cloudformation package --template-file "$template" --s3-bucket "$prefix-$home" --s3-prefix "$FOLDER" \
    --region "$home" --output-template-file "$work/packaged.yaml" >"$work/log" || { cat "$work/log" >&2; exit 1; }
# Each stack reads the code, and the template nested in it, from the bucket in its own Region.
own="$prefix-\${AWS::Region}" s3="https://s3.\${AWS::Region}.\${AWS::URLSuffix}"
sed -e "s|CodeUri: s3://$prefix-$home/\(.*\)|CodeUri: {Bucket: {'Fn::Sub': '$own'}, Key: \1}|" \
    -e "s|TemplateURL: http.*/$prefix-$home/\(.*\)|TemplateURL: {'Fn::Sub': '$s3/$own/\1'}|" \
    "$work/packaged.yaml" >"$work/template.yaml"
if ! grep -q 'CodeUri: {' "$work/template.yaml" || ! grep -q 'TemplateURL: {' "$work/template.yaml" ||
    grep -q -e 's3://' -e "$prefix-$home" "$work/template.yaml"; then
    echo "The packaged template is not as expected: not every CodeUri and TemplateURL was replaced." >&2
    exit 1
fi
# Named after its content: StackSets compares URLs and does not notice a new template under an old name.
name=$FOLDER/$(git hash-object --no-filters "$work/template.yaml" | cut -c1-16).yaml
$AWS s3 cp "$work/template.yaml" "s3://$prefix-$home/$name" --region "$home" --only-show-errors
for region in "${@:2}"; do
    $AWS s3 sync "s3://$prefix-$home/$FOLDER" "s3://$prefix-$region/$FOLDER" --source-region "$home" \
        --region "$region" --only-show-errors
done
case $partition in aws-cn) suffix=amazonaws.com.cn ;; *) suffix=amazonaws.com ;; esac
echo "https://$prefix-$home.s3.$home.$suffix/$name"
