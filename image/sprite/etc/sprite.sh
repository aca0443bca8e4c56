# Read by login shells.
case ":$PATH:" in
  *:/.sprite/bin:*) ;;
  *) PATH="$PATH:/.sprite/bin" ;;
esac
