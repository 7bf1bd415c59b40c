# Runs on the board, behind the console: executes checked requests, answers with checked frames.
# A request is a line "do SHA256 SEQ SCRIPT64 [PAYLOAD64]"; its hash is of what follows it. A request
# that was executed is not executed again. Every line, a spoilt one too, is answered with the latest
# frame, so a host that missed it sends any line. SCRIPT64 "w" is the script "w", without more ado. Plain POSIX sh; @N@ is the session.
set -m
S=$(stty -g)
exec 3>&1 2>/dev/null
LC_ALL=C
export LC_ALL
umask 022
N=@N@ s=0 c=0 j= I= e=0
D=$(mktemp -d /tmp/.edgeprune.XXXXXX) || exit
trap 'rm -rf "$D"; stty "$S"; echo "EP-END $N" >&3' EXIT
# Ctrl-C is for what runs, and nothing to what listens, checks and answers: an answer that it broke would stay broken.
# A job has a process group of its own, so that all of it goes.
K='I=1; [ -z "$j" ] || kill -KILL "-$j"'
trap '' INT
tune() { stty sane -echo -ixon; }
h() { H=$(printf %s "$1" | sha256sum); H=${H%% *}; }
answer() { h "$N $s $1 $2"; F="$N $s $1 $2 $H"; }
go() {
  I=
  (exec "$@") </dev/null >"$D/out" 2>"$D/err" &
  j=$!
  wait "$j"
  c=$?
  while kill -0 "$j"; do
    wait "$j"
    c=$?
  done
  j=
  echo "$c ${I:-0} $(wc -c <"$D/out") $(wc -c <"$D/err")"
  [ "$(($(wc -c <"$D/out") + $(wc -c <"$D/err")))" -gt 4000 ] || cat "$D/out" "$D/err"
}
w() { printf %s "$P" | base64 -d >>"$f"; }
tune
answer 0 -
printf '\n%s\n' "EP:$F" >&3
while :; do
  IFS= read -r l || {
    e=$((e + 1))
    [ "$e" -lt 50 ] || exit
    continue
  }
  e=0
  case $l in
  '') continue ;;
  quit) exit ;;
  'do '*)
    l=${l#do }
    h "${l#* }"
    if [ "$H" = "${l%% *}" ]; then
      set -- $l
      if [ "$2" -gt "$s" ]; then
        s=$2 P=$4
        case $3 in
        w) x=w ;;
        *) x=$(printf %s "$3" | base64 -d) ;;
        esac
        trap "$K" INT
        eval "$x" >"$D/o" 2>&1
        c=$?
        trap '' INT
        o=-
        [ ! -s "$D/o" ] || o=$(base64 <"$D/o" | tr -d '\n')
        answer "$c" "$o"
      fi
    fi
    ;;
  esac
  printf '\n%s\n' "EP:$F" >&3
done
