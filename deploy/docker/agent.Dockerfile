# tailgate-agent and the CNI plugin that it installs, for those who build with Docker (BuildKit), from the repository's root:
#   docker build -f deploy/docker/agent.Dockerfile --build-arg VERSION=$(git describe --tags --always) .
# go tool task images makes the same image without it, reproducibly and with an SBOM.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=devel
RUN go run ./deploy/images --binaries --only=agent --platform=$TARGETOS/$TARGETARCH --build-version=$VERSION --out=/out

FROM scratch
LABEL org.opencontainers.image.source=https://github.com/rajsinghtech/tailgate
COPY --from=build /src/deploy/images/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tailgate-agent /tailgate-agent
COPY --from=build /out/tailgate-cni /tailgate-cni
USER 0:0
ENTRYPOINT ["/tailgate-agent"]
