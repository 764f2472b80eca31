#!/usr/bin/env bash
# Looks up each image that the project starts from, and writes its current digest behind its tag.
#   deploy/images/digests.sh
# Needs skopeo and the registries. The digest is that of the list of all platforms, where there is one.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly FILES=(Dockerfile serving/container/Dockerfile compose.yaml cloudbuild.yaml)

named() {  # images with a tag, without their digests
  grep -ohP '(_IMAGE[=:] ?|\b(image|name): )\K[\w./-]+:[\w.-]+' "${FILES[@]}" | sort --unique
}

for image in $(named); do
  digest=$(skopeo inspect --no-tags --format '{{.Digest}}' "docker://$image")
  sed -i -E "s|\b${image//./\\.}(@sha256:[0-9a-f]+)?|$image@$digest|" "${FILES[@]}"
  printf '%s %s\n' "$image" "$digest"
done
git --no-pager diff --stat -- "${FILES[@]}"
