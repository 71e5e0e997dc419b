# The image of the sidecar is its static binary and nothing else. Build the binary first:
#
#   deploy/build-static watchkeeper-sidecar       # makes deploy/watchkeeper-sidecar
#   docker build -f deploy/sidecar.Dockerfile -t watchkeeper-sidecar deploy
#
# The root file system may be read-only; only the folder of STATE_FILE is written, if that is set.
FROM scratch
COPY watchkeeper-sidecar /watchkeeper-sidecar
USER 10001:10001
EXPOSE 8081 9091
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/watchkeeper-sidecar", "healthcheck"]
ENTRYPOINT ["/watchkeeper-sidecar"]
