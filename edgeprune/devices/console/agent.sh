# Runs on the board, behind the console: executes checked requests, answers with checked frames.
# A request is a line "do SHA256 SEQ : SCRIPT", "do SHA256 SEQ SCRIPT64" or "do SHA256 SEQ w PAYLOAD64", which writes;
# its hash is of what follows it. A request that was executed is not executed again. Every line, a spoilt one too, is
# answered with the latest frame, so a host that missed it sends any line. Plain POSIX sh; @N@ is the session.
# A process takes a small board, or an emulated one, tens of milliseconds: what the shell can do, it does itself.
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
# Of keys only Ctrl-C: what is sent to a receiver that has ended reaches the terminal, whatever bytes it holds. The one of
# Ctrl-\ would end this shell, that of Ctrl-Z (the padding of XMODEM) stop a process that it waits for.
tune() { stty sane -echo -ixon quit undef susp undef; }
h() {
  H=$(sha256sum <<END
$1
END
)
  H=${H%% *}
}
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
  # Each size with its name, and the sum.
  set -- $(wc -c "$D/out" "$D/err")
  echo "$c ${I:-0} $1 $3"
  [ "$5" -eq 0 ] || [ "$5" -gt 4000 ] || cat "$D/out" "$D/err"
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
      l=${l#* }
      n=${l%% *}
      l=${l#* }
      if [ "$n" -gt "$s" ]; then
        s=$n
        case $l in
        ': '*) x=${l#: } ;;
        'w '*) x=w P=${l#w } ;;
        *) x=$(printf %s "$l" | base64 -d) ;;
        esac
        trap "$K" INT
        eval "$x" >"$D/o" 2>&1
        c=$?
        trap '' INT
        o=-
        if [ -s "$D/o" ]; then
          set -- $(base64 <"$D/o")
          IFS=
          o=$*
          unset IFS
        fi
        answer "$c" "$o"
      fi
    fi
    ;;
  esac
  printf '\n%s\n' "EP:$F" >&3
done
