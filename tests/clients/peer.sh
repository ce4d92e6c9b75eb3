#!/usr/bin/env bash
# The Apache RocketMQ programs in Java, from their published artifacts: the peer that the conformance suite can be run
# against (WASPMQ_TEST_BROKER=java), so that the tests themselves are tested.
#
#   peer.sh namesrv HOME -c FILE     the nameserver, in the foreground
#   peer.sh broker  HOME -c FILE     the broker, in the foreground
#   peer.sh admin   HOME ARGS...     mqadmin
#   peer.sh fetch   HOME             nothing, but all of them can be started afterwards without the network
#
# HOME is a folder for whatever they write beside the store that FILE names. WASPMQ_PEER_VERSION: 5.3.3 (default) or
# 4.9.7. WASPMQ_PEER_HEAP: 512m. Needs Java 17 and Maven; the artifacts stay in ${XDG_CACHE_HOME:-~/.cache}/waspmq-tests.
set -euo pipefail

program=${1:?namesrv, broker, admin or fetch}; home=${2:?a folder}; shift 2
version=${WASPMQ_PEER_VERSION:-5.3.3}
libraries="${XDG_CACHE_HOME:-$HOME/.cache}/waspmq-tests/peer-$version"

fetch() {
  local half="$libraries.half.$$"
  mkdir -p "$half"
  {
    echo '<project><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>peer</groupId><artifactId>peer</artifactId><version>1</version><dependencies>'
    for artifact in rocketmq-broker rocketmq-namesrv rocketmq-tools; do
      echo "<dependency><groupId>org.apache.rocketmq</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } > "$half/pom.xml"
  mvn -q -B -f "$half/pom.xml" dependency:copy-dependencies -DoutputDirectory="$half" >&2
  mv -T "$half" "$libraries" 2>/dev/null || rm -rf "$half" # Another start was faster.
}

[ -d "$libraries" ] || fetch
mkdir -p "$home/conf"
for name in logback_namesrv.xml logback_broker.xml logback_tools.xml rmq.logback-test.xml; do
  echo '<configuration><root level="OFF"/></configuration>' > "$home/conf/$name"
done
case $program in
  fetch) exit ;;
  namesrv) class=org.apache.rocketmq.namesrv.NamesrvStartup heap=128m ;;
  broker) class=org.apache.rocketmq.broker.BrokerStartup heap=${WASPMQ_PEER_HEAP:-512m} ;;
  admin) class=org.apache.rocketmq.tools.command.MQAdminStartup heap=256m ;;
  *) echo "unknown program: $program" >&2; exit 2 ;;
esac
ROCKETMQ_HOME=$home exec java -Duser.home="$home" -Drocketmq.home.dir="$home" -Xmx"$heap" -XX:MaxDirectMemorySize=2g \
  --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED \
  --add-opens=java.base/sun.nio.ch=ALL-UNNAMED -cp "$home/conf:$libraries/*" "$class" "$@"
