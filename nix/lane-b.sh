#!/usr/bin/env bash
# lane-b.sh NIXPKGS WORK: evaluates lane-b.nix against a tree of nixpkgs, by the Nix in PATH, and says what it found. Called by scripts/check-nix.
set -euo pipefail
nixpkgs=$(realpath "$1") work="$2"
here=$(dirname "$0")

evaluate() { nix-instantiate --eval --strict --json "$here/lane-b.nix" --arg nixpkgs "$nixpkgs" "$@" 2>"$work/evaluation"; }
failed=0
bad() { echo "   $*" >&2; failed=1; }

for what in package machines vmTests nothingIsLeft workerIsOfTheMachine; do
  if answer=$(evaluate -A "$what"); then
    [ "$answer" != false ] || bad "$what does not hold"
    echo "   $what: $answer" | sed 's/","/"\n     "/g'
  else
    bad "$what cannot be evaluated:"
    tail -n 20 "$work/evaluation" >&2
  fi
done

messages=$(nix-instantiate --eval --strict --json --expr "builtins.mapAttrs (_: refusal: refusal.message) (import $(realpath "$here")/lane-b.nix { nixpkgs = $nixpkgs; }).refusals")
while IFS=$'\t' read -r name message; do
  if evaluate -A "refusals.$name.drv" >/dev/null; then
    bad "$name is not refused"
  elif grep -qF -- "$message" "$work/evaluation"; then
    echo "   refused: $message"
  else
    bad "$name is refused by another message than \"$message\":"
    tail -n 10 "$work/evaluation" >&2
  fi
done < <(python3 -c 'import json, sys; [print(f"{name}\t{message}") for name, message in json.loads(sys.argv[1]).items()]' "$messages")

nix-instantiate --eval --strict --json "$here/options-page.nix" --arg nixpkgs "$nixpkgs" 2>"$work/evaluation" \
  | python3 -c 'import json, sys; print(json.load(sys.stdin).rstrip())' >"$work/nixos-options.md" || bad "docs/nixos-options.md cannot be made"
diff -u "$here/../docs/nixos-options.md" "$work/nixos-options.md" || bad "docs/nixos-options.md is not what the modules say: copy $work/nixos-options.md there"

exit "$failed"
