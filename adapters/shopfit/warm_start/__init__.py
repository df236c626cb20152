"""What an adapter's weights start from: candidates, donors, and the choice by the merchant's own examples."""
