#!/bin/sh
# Builds the Debian package: dist/anechoic_VERSION_ARCH.deb.
#
#   packaging/build.sh [VERSION]
#
# Without VERSION it comes from git: the tag, or the tag and what came after it. The same
# commit, Go and GOARCH give the same file, octet for octet. DIST is where it goes.
#
# Who gives the package to others sets both of these here, in the environment, and nowhere
# else: MAINTAINER stands in the package, SECURITY_CONTACT in its SECURITY.md. The sources
# have placeholders below .invalid (RFC 2606), which nobody can be reached at.
#
#   MAINTAINER='Ann Example <ann@example.org>' SECURITY_CONTACT=security@example.org packaging/build.sh
set -eu
cd "$(dirname "$0")/.."
MAINTAINER=${MAINTAINER:-}
SECURITY_CONTACT=${SECURITY_CONTACT:-}

from_git() {
	if tag=$(git describe --tags --match 'v[0-9]*' 2>/dev/null); then
		echo "$tag" | sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/' # 1.2.0+3.gabc comes after 1.2.0
	else
		git log -1 --format='0.0.0+git%cd.%h' --date=format:%Y%m%d
	fi
}
VERSION=${1:-$(from_git)}
case "$VERSION" in [0-9]*) ;; *)
	echo "packaging: version \"$VERSION\" does not begin with a digit, as Debian wants" >&2
	exit 2
	;;
esac
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
ARCH=$(go env GOARCH)
DIST=${DIST:-dist}
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
export VERSION SOURCE_DATE_EPOCH ARCH
umask 022

CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags libcrypto -ldflags "-s -w -X main.version=$VERSION" -o "$STAGE/anechoic" ./cmd/anechoic

# Man pages and completions are the program's own; for another processor the one of this
# machine says them.
tell="$STAGE/anechoic"
if [ "$ARCH" != "$(go env GOHOSTARCH)" ]; then
	tell="$STAGE/tell"
	GOARCH='' go build -o "$tell" ./cmd/anechoic
fi
mkdir "$STAGE/man" "$STAGE/completion" "$STAGE/doc"
"$tell" man --dir "$STAGE/man" >/dev/null
gzip -9n "$STAGE"/man/*.1
"$tell" completion bash >"$STAGE/completion/anechoic.bash"
"$tell" completion zsh >"$STAGE/completion/_anechoic"
"$tell" completion fish >"$STAGE/completion/anechoic.fish"
cp -r README.md CHANGELOG.md SECURITY.md THREAT-MODEL.md docs/. "$STAGE/doc/"
cp -r packaging "$STAGE/packaging"

# fill VALUE PLACEHOLDER FILE puts a value in a placeholder's place.
fill() {
	if [ -z "$1" ]; then
		echo "packaging: ${3##*/} keeps $2, where nobody can be reached: see the head of packaging/build.sh" >&2
		return
	fi
	value=$(printf '%s' "$1" | sed 's/[&|\\]/\\&/g')
	sed -i "s|$2|$value|" "$3"
}
fill "$MAINTAINER" 'Anechoic <maintainers@anechoic.invalid>' "$STAGE/packaging/nfpm.yaml"
if [ -n "$SECURITY_CONTACT" ]; then
	sed -i 's/ — \*\*a placeholder[^;]*; until$/, in private./; s/^then tell the people you have the program from, in private\. //' "$STAGE/doc/SECURITY.md"
fi
fill "$SECURITY_CONTACT" 'security@anechoic.invalid' "$STAGE/doc/SECURITY.md"

mkdir -p "$DIST"
DIST=$(cd "$DIST" && pwd)
go build -C tools -o "$STAGE/debian" ./debian
cd "$STAGE"
find . -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
./debian packaging/nfpm.yaml "$DIST"
