import XCTest

@testable import SortalSample

/// Golden vectors: small images, and their pixels as Sortal prepares them. No pixel may differ.
final class PreprocessTests: XCTestCase {
    struct Golden: Decodable {
        struct Image: Decodable {
            let height: Int
            let width: Int
            let channels: Int
            let pixels: String
        }

        struct Case: Decodable {
            let spec: Spec
            let image: Image
            let prepared: String
        }

        let cases: [Case]
    }

    func testEveryPixelIsAsSortalPreparesIt() throws {
        let file = try XCTUnwrap(Bundle.module.url(forResource: "golden", withExtension: "json"))
        let golden = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: file))
        XCTAssertFalse(golden.cases.isEmpty)
        for (number, one) in golden.cases.enumerated() {
            let image = Pixels(
                width: one.image.width, height: one.image.height, channels: one.image.channels,
                data: bytes(one.image.pixels)
            )
            XCTAssertEqual(Preprocess.prepare(one.spec, image).data, bytes(one.prepared), "case \(number)")
        }
    }

    private func bytes(_ hex: String) -> [UInt8] {
        let digits = Array(hex)
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...($0 + 1)]), radix: 16)! }
    }
}
